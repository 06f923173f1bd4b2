"""Codes of texts, as ``encode`` writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["Codes", "Encoder"]


@dataclass(frozen=True)
class Codes:
    """Codes of texts, with counts and notes on the texts."""

    values: np.ndarray  # (texts, ...)
    counts: dict[str, int] = field(default_factory=dict)  # further keys of the result
    run_notes: Sequence[str] = ()  # assumptions made when the run was opened
    notes: Sequence[str] = ()  # on texts that were cut, and unknown words


@runtime_checkable
class Encoder(Protocol):
    """Encodes texts by the run of one kind."""

    def __call__(self, path: Path, device: str, source: str, texts: Sequence[str]) -> Codes:
        """Open a run and return the codes of texts; ``source`` names them in notes."""
