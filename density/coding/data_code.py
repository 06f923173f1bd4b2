r"""The interface between a bits-back coder and its data: :math:`p(x \mid z)` as a code of tiles."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor

from density.coding.ans import PRECISION, Intervals, Stack
from univae.errors import InputError

__all__ = ["Coding", "Emission", "Rows", "noise"]

MOST_PARTICLES = 4096
MOST_ROWS = 4096  # of a tile

Rows = TypeVar("Rows", np.ndarray, list[list[int]])  # images or table rows; texts as tokens


@dataclass(frozen=True)
class Coding:
    """The options of a coder, stored in the header of a file for its decoder."""

    particles: int = 1  # importance samples per row
    tile: int = 1  # rows coded together, each with its own initial bits
    swap: bool = True  # Bit-Swap, where the model is a chain of layers and particles are one
    waves: bool = False  # autoregressive pixels wave by wave, not in raster order

    def __post_init__(self) -> None:
        if not (1 <= self.particles <= MOST_PARTICLES and 1 <= self.tile <= MOST_ROWS):
            raise InputError(
                f"Coding: particles and tile must lie in 1..{MOST_ROWS}; "
                f"got particles={self.particles}, tile={self.tile}"
            )


@runtime_checkable
class Emission(Protocol[Rows]):
    r"""Code tiles of rows by :math:`p(x \mid z)`, and the first rows of a message without latents.

    A tile is a tensor that ``model.posterior`` takes; ``count`` is the number of rows in it, the
    rest is padding.
    """

    def tile(self, rows: Rows | None) -> Tensor:
        """Return rows, at most a tile of them, padded to a whole tile; None: a blank one."""
        ...

    def rows(self, x: Tensor, count: int) -> Rows:
        """Return the rows of a tile: the inverse of :meth:`tile`."""
        ...

    def join(self, parts: Sequence[Rows]) -> Rows:
        """Return rows one after the other."""
        ...

    def content(self, rows: Rows) -> bytes:
        """Return the rows as bytes, for a checksum."""
        ...

    def compact(self, rows: Rows) -> bytes:
        """Return the rows as few bytes, to store them without a model."""
        ...

    def from_compact(self, content: bytes, count: int) -> Rows:
        """Return the rows of :meth:`compact`; raise ValueError where there are not ``count``."""
        ...

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        """Return the intervals of the symbols of x in the tables of p(x | z)."""
        ...

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
        """Pop a tile whose :meth:`intervals` were pushed."""
        ...

    def push_plain(self, stack: Stack, rows: Rows) -> None:
        """Push rows without latents."""
        ...

    def pop_plain(self, stack: Stack, count: int) -> Rows:
        """Pop the rows that :meth:`push_plain` pushed."""
        ...


def noise(x: Tensor, count: int, width: int) -> np.ndarray:
    """Return a hash of each row of x: uniform integers of ``PRECISION`` bits, (count, width).

    A coder pops the bits that it pushed last, of a latent whose distribution, the aggregate
    posterior, differs slightly from the prior. As positions in the tables of a posterior q, these
    bits would not give samples of q. With this hash added, positions are uniform for any bits; a
    decoder, which has x by then, subtracts it.
    """
    seeds = [zlib.crc32(row.tobytes()) for row in x[:count].contiguous().numpy()]
    state: np.ndarray = np.array(seeds, np.uint64)[:, None] << np.uint64(32)
    state = (state + np.arange(1, width + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(64 - PRECISION)).astype(np.int64)
