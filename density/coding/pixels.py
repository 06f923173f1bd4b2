r"""Whole-number data as a code: tables of :math:`p(x \mid z) = \prod_d p(x_d \mid z)`, counts for the first data."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent

from density.coding.ans import Intervals, Stack, frequencies, intervals
from density.likelihoods.autoregressive import CausalPixels, Place
from density.likelihoods.distributions import LevelPixels
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["PixelCode", "log_table", "shape_and_levels"]

STRIDE = 16  # values after which the counts of a plain code are brought up to date


def log_table(law: Distribution) -> Tensor:
    r"""Return :math:`\log P(x_d = k)` of a law of whole numbers, (\*batch, \*event, levels).

    :class:`InputError` for other laws; densities have no tables.
    """
    if isinstance(law, LevelPixels):
        return law.log_table()
    base = law
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Bernoulli):
        return torch.nn.functional.logsigmoid(torch.stack((-base.logits, base.logits), -1))
    if isinstance(base, Categorical):
        return base.logits.log_softmax(-1)
    raise InputError(
        f"compress: the law of the data must be one of whole numbers; got {type(base).__name__}, a density or a law "
        "without a table of each pixel; train with likelihood bernoulli, categorical or logistic, and not as patches"
    )


def shape_and_levels(law: Distribution) -> tuple[tuple[int, ...], int]:
    """The shape of one datum, and how many levels its values have."""
    if not isinstance(law, CausalPixels):
        table = log_table(law)
        return tuple(table.shape[1:-1]), table.shape[-1]
    return tuple(law.event_shape), log_table(law.first()).shape[-1]


class PixelCode:
    r"""Codes arrays (N, \*shape) of whole numbers by the law of a model; an :class:`density.coding.data_code.Emission`.

    Pixels that look at those before them are coded in their order, each by its law given what is
    known by then. The first data are coded value by value by the share of each level among the
    values before, one of each assumed.
    """

    def __init__(self, model: LatentModel, shape: Sequence[int], levels: int, tile: int) -> None:
        self.model = model
        self.shape = tuple(shape)
        self.levels = levels
        self.size = tile
        self.dims = math.prod(self.shape)

    def tile(self, data: np.ndarray | None) -> Tensor:
        x = np.zeros((self.size, *self.shape))
        if data is not None:
            x[: len(data)] = data
        return torch.from_numpy(x)

    def data(self, x: Tensor, count: int) -> np.ndarray:
        return x[:count].numpy().astype(np.int64)

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.empty((0, *self.shape), np.int64), *parts])

    def content(self, data: np.ndarray) -> bytes:
        return data.astype("<i8").tobytes()

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        law = self.model.likelihood(z)
        owned = list[Intervals]()

        def own(values: Tensor, table: np.ndarray) -> None:
            symbols = values.reshape(-1).numpy().astype(np.int64)
            owned.append(
                intervals(table, symbols, np.repeat(np.arange(count), len(symbols) // count))
            )

        if isinstance(law, CausalPixels):

            def choose(place: Place, here: Distribution) -> Tensor:
                row, column = place
                own(x[:count, :, row, column], self._frequencies(here, count, self.shape[:1]))
                return x[:, :, row, column]

            law.walk(choose)
        else:
            own(x[:count], self._frequencies(law, count, self.shape))
        return Intervals(*(np.concatenate(parts) for parts in zip(*owned, strict=True)))

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
        law = self.model.likelihood(z)
        if not isinstance(law, CausalPixels):
            return self.tile(
                stack.pop(self._frequencies(law, count, self.shape)).reshape(count, *self.shape)
            )

        def choose(place: Place, here: Distribution) -> Tensor:
            values = torch.zeros(self.size, self.shape[0])
            popped = stack.pop(self._frequencies(here, count, self.shape[:1]))
            values[:count] = torch.from_numpy(popped).reshape(count, -1)
            return values

        return law.walk(choose)

    def push_plain(self, stack: Stack, data: np.ndarray) -> None:
        values = data.reshape(-1).astype(np.int64)
        counted = _Counts(self.levels)
        owned = []
        for part in _strides(len(values)):
            owned.append(
                intervals(
                    counted.table(part), values[part], np.zeros(part.stop - part.start, np.int64)
                )
            )
            counted.add(values[part])
        for each in reversed(owned):
            stack.push(each)

    def pop_plain(self, stack: Stack, count: int) -> np.ndarray:
        values = np.empty(count * self.dims, np.int64)
        counted = _Counts(self.levels)
        for part in _strides(len(values)):
            values[part] = stack.pop(counted.table(part))
            counted.add(values[part])
        return values.reshape(count, *self.shape)

    def _frequencies(self, law: Distribution, count: int, shape: tuple[int, ...]) -> np.ndarray:
        """The frequencies of the real data of a tile, (values, levels): the one source of both directions."""
        table = log_table(law)
        if table.shape != (self.size, *shape, self.levels):
            raise InputError(
                f"compress: the model's law is of {tuple(table.shape[1:-1])} values and {table.shape[-1]} levels, the "
                f"data are {shape} of {self.levels}; give data of the model"
            )
        return frequencies(table[:count].exp().reshape(-1, self.levels).contiguous().numpy())


class _Counts:
    """How often each level was seen, one more each."""

    def __init__(self, levels: int) -> None:
        self.counts = np.ones(levels)

    def table(self, part: slice) -> np.ndarray:
        row = frequencies(self.counts[None] / self.counts.sum())
        return np.broadcast_to(row, (part.stop - part.start, len(self.counts)))

    def add(self, values: np.ndarray) -> None:
        self.counts += np.bincount(values, minlength=len(self.counts))


def _strides(length: int) -> Iterator[slice]:
    return (slice(start, min(start + STRIDE, length)) for start in range(0, length, STRIDE))
