"""Rotary phases of generated tokens, one position after the other.

References:
    RoFormer (Su et al., 2021), https://arxiv.org/abs/2104.09864
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Complex, Int
from torch import Tensor

__all__ = ["Positions", "RowPositions", "SharedPositions"]


@runtime_checkable
class Positions(Protocol):
    """The positions of the next token of all rows."""

    def next_phase(self) -> Tensor:
        """Return the phases of the next token, and advance all rows by one position."""
        ...

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Replace row i by row ``rows[i]``."""


class SharedPositions:
    """All rows at the same position: that of ``phase[start]``, then the following ones."""

    def __init__(self, phase: Complex[Tensor, "positions half"], start: int = 0) -> None:
        self.phases = phase.unbind(0)  # one unbind is faster than an index per token
        self.position = start

    def next_phase(self) -> Complex[Tensor, "half"]:
        """Return the phase of the next token of every row."""
        phase = self.phases[self.position]
        self.position += 1
        return phase

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Do nothing: rows share their position."""


class RowPositions:
    """One position per row, initially ``starts``."""

    def __init__(
        self, phase: Complex[Tensor, "positions half"], starts: Int[Tensor, "batch"]
    ) -> None:
        self.phase = phase
        self.position = starts

    def next_phase(self) -> Complex[Tensor, "batch 1 1 half"]:
        """Return the phase of the next token of each row."""
        phase = self.phase[self.position][:, None, None]
        self.position = self.position + 1
        return phase

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Replace row i by row ``rows[i]``."""
        self.position = self.position[rows]
