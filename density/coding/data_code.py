r"""What a bits-back coder asks of data: the law :math:`p(x \mid z)` as a code of tiles.

And how it is told to code.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from density.coding.ans import PRECISION, Intervals, Stack
from univae.errors import InputError

__all__ = ["Coding", "Emission", "noise"]


@dataclass(frozen=True)
class Coding:
    """How data are coded; a reader must do the same, so a file says it."""

    particles: int = 1  # importance samples of a datum
    tile: int = 1  # data coded together, each needing initial bits of its own
    swap: bool = True  # Bit-Swap, where the model is a chain of layers and particles are one

    def __post_init__(self) -> None:
        if not (1 <= self.particles <= 4096 and 1 <= self.tile <= 4096):
            raise InputError(
                f"Coding: particles and tile must lie in 1..4096; got particles={self.particles}, tile={self.tile}"
            )


@runtime_checkable
class Emission(Protocol):
    r"""The law :math:`p(x \mid z)` as a code for tiles of data, and a code for the first data, without latents.

    ``count`` is the number of real data in a tile; the rest is padding. A tile is what
    ``model.posterior`` takes.
    """

    def tile(self, data: Any) -> Tensor:
        """Pad some data, at most a tile of them, to a whole tile; no data make a blank one."""
        ...

    def data(self, x: Tensor, count: int) -> Any:
        """The inverse of :meth:`tile`."""
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """Data one after the other."""
        ...

    def content(self, data: Any) -> bytes:
        """The data as bytes, for a checksum."""
        ...

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        """What the symbols of x own of the tables of p(x | z)."""
        ...

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
        """Pop a tile whose intervals were pushed."""
        ...

    def push_plain(self, stack: Stack, data: Any) -> None:
        """Push data without latents."""
        ...

    def pop_plain(self, stack: Stack, count: int) -> Any:
        """Pop what :meth:`push_plain` pushed."""
        ...


def noise(x: Tensor, count: int, width: int) -> np.ndarray:
    """Uniform integers of ``PRECISION`` bits, (count, width), each row a function of that row of x alone (SplitMix64).

    What is popped from a stack is what was just pushed, the last latent, whose values are not quite
    as likely as its prior has them. Read as positions in the tables of a posterior q, they would
    draw from another law than q. With this added, positions are uniform whatever they come from;
    who reads x may take it off again.
    """
    seeds = [zlib.crc32(row.tobytes()) for row in x[:count].contiguous().numpy()]
    state: np.ndarray = np.array(seeds, np.uint64)[:, None] << np.uint64(32)
    state = (state + np.arange(1, width + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(64 - PRECISION)).astype(np.int64)
