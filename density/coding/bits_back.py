r"""Bits-back coding of a message: latents are popped from the bits of the rows before.

:mod:`density.coding.particles` codes a tile of rows, or :mod:`density.coding.bit_swap` where the
model is a chain of layers. The first bits to pop are those of the first rows, which are coded
without a latent, so that all bits of a message are counted.

Reader and writer compute the same integers because every distribution is evaluated on tiles of one
shape, with the same numbers in them, by one thread in float64; and because a latent is
determined by its bucket.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias

import numpy as np

from density.coding.ans import SPARE, Exhausted, Stack
from density.coding.bit_swap import BitSwap
from density.coding.data_code import Coding, Emission, Rows
from density.coding.finite import naming_rows
from density.coding.latents import Layers
from density.coding.particles import ParticleCode
from density.model import LatentModel

__all__ = ["BitsBack", "Message", "Progress", "ignore_progress"]

PROBE_WORDS = 2**14  # of the message of BitsBack.probe

Progress: TypeAlias = Callable[
    [int], object
]  # receives the number of rows done since the last call


@dataclass(frozen=True)
class Message:
    """A message, and its numbers of rows and bits."""

    words: np.ndarray
    plain: int  # rows coded without latents, the first ones
    initial_bits: int  # of these
    net_bits: int  # of the other rows
    count: int  # rows in all


class _Shortage(NamedTuple):
    """A message too short to pop the latents of the next rows."""

    missing: int
    plain_bits: int  # of the rows coded without latents
    coded: int  # rows coded so far


def ignore_progress(count: int) -> None:
    """Do nothing."""


class BitsBack(Generic[Rows]):
    """Code rows by a model with Gaussian latents, of one layer or several, and an emission.

    The model must be in float64 and evaluate; see :func:`density.coding.exact.prepared`.
    """

    def __init__(self, model: LatentModel, emission: Emission[Rows], coding: Coding) -> None:
        self.model = model
        self.emission: Emission[Rows] = emission
        self.tile = coding.tile
        self.layers = Layers(model, emission.tile(None), coding.tile)
        is_chain = bool(getattr(model, "chain", False))
        self.code: BitSwap[Rows] | ParticleCode[Rows]
        if coding.swap and coding.particles == 1 and is_chain:
            self.code = BitSwap(model, emission, self.layers)
        else:
            self.code = ParticleCode(model, emission, self.layers, coding.particles)

    def push(self, rows: Rows, progress: Progress = ignore_progress) -> Message:
        """Return the message of rows.

        ``progress`` receives the number of rows done, negative before a restart.
        """
        plain = 0
        while True:
            attempt = self._attempt(rows, plain, progress)
            if isinstance(attempt, Message):
                return attempt
            progress(-attempt.coded)
            plain = min(len(rows), plain + _more_plain(attempt, plain))

    def pop(
        self, words: np.ndarray, count: int, plain: int, progress: Progress = ignore_progress
    ) -> Rows:
        """Return the ``count`` rows of a message, ``plain`` of them coded without latents.

        Raises:
            ValueError: the message ends before its rows.
        """
        stack = Stack(words)
        row_groups = []
        for start in reversed(range(plain, count, self.tile)):
            size = min(self.tile, count - start)
            row_groups.append(self.emission.rows(self.code.pop(stack, size), size))
            if stack.bits < SPARE:  # no writer had so few bits to pop latents from
                raise ValueError(f"the message ends {start - plain + size} rows too early")
            progress(size)
        if plain:
            row_groups.append(self.emission.pop_plain(stack, plain))
            progress(plain)
        return self.emission.join(row_groups[::-1])

    def probe(self) -> int:
        """Return a checksum of this machine's arithmetic: of all bits of what the model computes.

        A tile is popped from a fixed message, and its posterior computed. Machines whose sums
        differ in the last digits, which change few tables, give other checksums.
        """
        words = np.random.default_rng(0).integers(2**32, size=PROBE_WORDS, dtype=np.uint32)
        try:
            x = self.code.pop(Stack(words), self.tile)
        except (ValueError, IndexError):  # a text without an end, or a code that a model lacks
            x = self.emission.tile(None)
        bucket = self.layers.middle()
        checksum = zlib.crc32(x.contiguous().numpy().tobytes())
        posterior = self.layers.posterior_conditionals(self.model.posterior(x), bucket)
        for _, gaussian in sorted(posterior.items()):
            checksum = zlib.crc32(gaussian.mean.tobytes(), checksum)
            checksum = zlib.crc32(gaussian.scale.tobytes(), checksum)
        return checksum

    def _attempt(self, rows: Rows, plain: int, progress: Progress) -> Message | _Shortage:
        """Push the first ``plain`` rows without latents, then the others while bits suffice."""
        stack = Stack()
        if plain:
            self.emission.push_plain(stack, rows[:plain])
        plain_bits = stack.bits
        progress(plain)

        for start in range(plain, len(rows), self.tile):
            tile_rows = rows[start : start + self.tile]
            try:
                with naming_rows(start):
                    self.code.push(stack, self.emission.tile(tile_rows), len(tile_rows))
            except Exhausted as error:
                return _Shortage(error.missing, plain_bits, start)
            progress(len(tile_rows))
        return Message(stack.words(), plain, plain_bits, stack.bits - plain_bits, len(rows))


def _more_plain(shortage: _Shortage, plain: int) -> int:
    """Return how many more rows to code without latents, by the mean length of those so far."""
    if not plain:
        return 1
    bits_per_row = max(1, shortage.plain_bits // plain)
    return -(-shortage.missing // bits_per_row)
