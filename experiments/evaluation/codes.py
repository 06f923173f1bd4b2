"""Codes of texts, images or rows, as ``encode`` writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["Codes", "Encoder"]


@dataclass(frozen=True)
class Codes:
    """Codes of data, with counts and notes on the data."""

    values: np.ndarray  # (data, ...)
    counts: dict[str, int] = field(default_factory=dict)  # further keys of the result
    run_notes: Sequence[str] = ()  # assumptions made when the run was opened
    notes: Sequence[str] = ()  # on data that were left out or cut, and unknown words


@runtime_checkable
class Encoder(Protocol):
    """Encodes data by the run of one kind."""

    def __call__(self, path: Path, device: str, source: str, limit: int) -> Codes:
        """Open a run and return the codes of the first ``limit`` data of a source; 0: all."""
