r"""Whole numbers as a code: tables of :math:`p(x_d \mid z)`, counts for the first rows."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent

from density.coding.ans import Intervals, Stack, concatenate, frequencies, intervals
from density.coding.finite import row_frequencies
from density.coding.levels import compact, from_compact
from density.likelihoods.autoregressive import CausalPixels
from density.likelihoods.distributions import LevelPixels
from density.likelihoods.head import Pixels
from density.likelihoods.laws import LAWS
from density.model import LatentModel
from univae.errors import InputError

__all__ = [
    "PixelCode",
    "log_table",
    "require_codable",
    "shape_and_levels",
]

STRIDE = 16  # values between updates of the counts of a plain code


def log_table(distribution: Distribution) -> Tensor:
    r"""Return :math:`\log P(x_d = k)` of whole numbers, (\*batch, \*event, levels).

    Raises:
        InputError: the distribution has no table of each pixel, as a density.
    """
    if isinstance(distribution, LevelPixels):
        return distribution.log_table()
    base = distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Bernoulli):
        return torch.nn.functional.logsigmoid(torch.stack((-base.logits, base.logits), -1))
    if isinstance(base, Categorical):
        return base.logits.log_softmax(-1)
    raise InputError(
        "compress: the distribution of the data must be one of whole numbers; got "
        f"{type(base).__name__}, a density or a distribution without a table of each pixel; "
        f"train with likelihood {_codable()}, and not as patches"
    )


def require_codable(pixels: Pixels) -> None:
    """Raise :class:`InputError` unless the law of the pixels has frequencies to code with."""
    reason = pixels.law.uncodable
    if reason and pixels.kinds:
        raise InputError(
            f"compress: the model {reason}; compress the file with xz, or train on whole numbers "
            "in an .npy without column names"
        )
    if reason:
        raise InputError(
            f"compress: likelihood={pixels.likelihood} {reason}; train with likelihood {_codable()}"
        )


def _codable() -> str:
    *names, last = [name for name, law in LAWS.items() if not law.uncodable]
    return f"{', '.join(names)} or {last}"


def shape_and_levels(distribution: Distribution) -> tuple[tuple[int, ...], int]:
    """Return the shape of one row, and how many levels its values have."""
    if isinstance(distribution, CausalPixels):
        return tuple(distribution.event_shape), log_table(distribution.first()).shape[-1]
    table = log_table(distribution)
    return tuple(table.shape[1:-1]), table.shape[-1]


class PixelCode:
    r"""Code arrays (N, \*shape) of whole numbers: an :class:`density.coding.data_code.Emission`.

    Autoregressive pixels are coded in raster order, each by its distribution given the
    earlier ones. The first rows are coded without latents, value by value, by the frequencies of
    levels in the earlier values, plus one each.
    """

    def __init__(self, model: LatentModel, shape: Sequence[int], levels: int, tile: int) -> None:
        self.model = model
        self.shape = tuple(shape)
        self.levels = levels
        self.size = tile
        self.dims = math.prod(self.shape)

    def tile(self, rows: np.ndarray | None) -> Tensor:
        """Return rows padded with zeros to a whole tile, in float64."""
        x = np.zeros((self.size, *self.shape))
        if rows is not None:
            x[: len(rows)] = rows
        return torch.from_numpy(x)

    def rows(self, x: Tensor, count: int) -> np.ndarray:
        """Return the rows of a tile as int64."""
        return x[:count].numpy().astype(np.int64)

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return rows one after the other."""
        return np.concatenate([np.empty((0, *self.shape), np.int64), *parts])

    def content(self, rows: np.ndarray) -> bytes:
        """Return the levels as little-endian int64, for a checksum."""
        return rows.astype("<i8").tobytes()

    def compact(self, rows: np.ndarray) -> bytes:
        """Return the levels in as few bytes as their number needs, two levels as bits."""
        return compact(rows, self.levels)

    def from_compact(self, content: bytes, count: int) -> np.ndarray:
        """Return the rows of :meth:`compact` as int64."""
        return from_compact(content, self.levels, (count, *self.shape))

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        """Return the intervals of the pixels of x in the tables of p(x | z)."""
        distribution = self.model.likelihood(z)
        if not isinstance(distribution, CausalPixels):
            return self._intervals(distribution, x[:count], self.shape)
        walk = distribution.walk()
        columns = []
        for position in walk.positions():
            row, column = position
            values = x[:, :, row, column]
            columns.append(
                self._intervals(walk.distribution(position), values[:count], self.shape[:1])
            )
            walk.put(position, values)
        return concatenate(columns)

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
        """Pop a tile whose :meth:`intervals` were pushed."""
        distribution = self.model.likelihood(z)
        if not isinstance(distribution, CausalPixels):
            symbols = stack.pop(self._frequencies(distribution, count, self.shape))
            return self.tile(symbols.reshape(count, *self.shape))
        walk = distribution.walk()
        for position in walk.positions():
            table = self._frequencies(walk.distribution(position), count, self.shape[:1])
            values = torch.zeros(self.size, self.shape[0])
            values[:count] = torch.from_numpy(stack.pop(table)).reshape(count, -1)
            walk.put(position, values)
        return walk.images()

    def push_plain(self, stack: Stack, rows: np.ndarray) -> None:
        """Push rows without latents."""
        values = rows.reshape(-1).astype(np.int64)
        counts = _Counts(self.levels)
        strides = []
        for stride in _strides(len(values)):
            symbols = values[stride]
            row = np.zeros(len(symbols), np.int64)
            strides.append(intervals(counts.table(len(symbols)), symbols, row))
            counts.add(symbols)
        for stride_intervals in reversed(strides):
            stack.push(stride_intervals)

    def pop_plain(self, stack: Stack, count: int) -> np.ndarray:
        """Pop the rows that :meth:`push_plain` pushed."""
        values = np.empty(count * self.dims, np.int64)
        counts = _Counts(self.levels)
        for stride in _strides(len(values)):
            values[stride] = stack.pop(counts.table(stride.stop - stride.start))
            counts.add(values[stride])
        return values.reshape(count, *self.shape)

    def _intervals(
        self, distribution: Distribution, x: Tensor, shape: tuple[int, ...]
    ) -> Intervals:
        """Return the intervals of the values x (count, *shape) of one distribution."""
        count = len(x)
        symbols = x.reshape(-1).numpy().astype(np.int64)
        row = np.repeat(np.arange(count), len(symbols) // count)
        return intervals(self._frequencies(distribution, count, shape), symbols, row)

    def _frequencies(
        self, distribution: Distribution, count: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Return the frequencies of a tile's rows, (values, levels): used in both directions."""
        table = log_table(distribution)
        if table.shape != (self.size, *shape, self.levels):
            raise InputError(
                f"compress: the model's distribution is of {tuple(table.shape[1:-1])} values and "
                f"{table.shape[-1]} levels, the data are {shape} of {self.levels}; "
                "give data of the model's shape and levels"
            )
        p = table[:count].exp().reshape(-1, self.levels).contiguous().numpy()
        row = np.arange(len(p)) // (len(p) // count)
        return row_frequencies(p, row, "the distribution of the pixels")


class _Counts:
    """Counts of the levels, plus one each: the adaptive table of the plain code."""

    def __init__(self, levels: int) -> None:
        self.counts = np.ones(levels)

    def table(self, count: int) -> np.ndarray:
        """Return the frequencies (count, levels) of the next ``count`` values."""
        row = frequencies(self.counts[None] / self.counts.sum())
        return np.broadcast_to(row, (count, len(self.counts)))

    def add(self, values: np.ndarray) -> None:
        """Count the values."""
        self.counts += np.bincount(values, minlength=len(self.counts))


def _strides(length: int) -> Iterator[slice]:
    return (slice(start, min(start + STRIDE, length)) for start in range(0, length, STRIDE))
