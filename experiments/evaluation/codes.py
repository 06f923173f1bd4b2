"""Codes of texts, as ``encode`` writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["Codes", "Encoder"]


@dataclass(frozen=True)
class Codes:
    """Codes of texts, (texts, ...), with what was counted and noted while they were encoded."""

    values: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)  # further keys of the result
    run_notes: Sequence[str] = ()  # what was assumed when the run was opened
    notes: Sequence[str] = ()  # what was cut or unknown of the texts


@runtime_checkable
class Encoder(Protocol):
    """Encodes texts by the run of one kind."""

    def __call__(self, path: Path, device: str, source: str, texts: Sequence[str]) -> Codes:
        """Open a run and return the codes of texts; ``source`` names them in notes."""
