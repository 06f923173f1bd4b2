"""Codes of texts, images or rows, as ``encode`` writes them: a block of data at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from univae.text.tally import Tally

__all__ = ["CodeBlock", "Codes", "Encoder"]


class CodeBlock(NamedTuple):
    """The codes of a block of data, and counts on them."""

    values: np.ndarray  # (data, ...)
    tally: Tally


@dataclass(frozen=True)
class Codes:
    """Data that are read a block at a time, and what encodes a block.

    Blocks hold whole batches: a datum's code has the same bits whichever process encodes its block.
    """

    blocks: Iterator[Any]  # texts, or numbers of rows; InputError while reading
    encode: Callable[[Any], CodeBlock]
    # on data that were left out or cut, and unknown words; of the tally of all blocks
    notes: Callable[[Tally], list[str]]
    run_notes: Sequence[str] = ()  # assumptions made when the run was opened
    counted: Sequence[str] = ()  # fields of the tally that are keys of the result


@runtime_checkable
class Encoder(Protocol):
    """Encodes data by the run of one kind."""

    def __call__(self, path: Path, device: str, source: str, limit: int) -> Codes:
        """Open a run, and the first ``limit`` data of a source to encode; 0: all."""
