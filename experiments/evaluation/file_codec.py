"""The interface of lossless codecs, which ``compress`` and ``decompress`` use.

The content of a file is restored exactly: an array with its dtype and shape, a text with its line
ends, also where the last line has none. Labels, names of files and further arrays are not coded.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor

from density.coding.bits_back import BitsBack
from density.coding.compress import Account
from density.coding.container import Header
from density.coding.data_code import Coding, Rows
from density.model import LatentModel
from experiments.data.outputs import Output
from univae.checkpoint import JsonObject

__all__ = ["AnyFileCodec", "Content", "Exact", "FileCodec", "header_facts"]


Exact = TypeVar("Exact")  # the content of a file: an array, or a text


@dataclass(frozen=True)
class Content(Generic[Exact, Rows]):
    """The data of a file, as stored and as the coder takes them."""

    exact: Exact
    values: Rows  # level numbers (N, *shape), or lists of tokens
    header: Header
    size: int  # bytes
    notes: tuple[str, ...] = ()  # of the reader: what it left out or assumed

    def with_tile(self, tile: int) -> "Content[Exact, Rows]":
        """Return the same content, coded ``tile`` data at a time."""
        coding = replace(self.header.coding, tile=tile)
        return replace(self, header=replace(self.header, coding=coding))


@runtime_checkable
class FileCodec(Protocol[Exact, Rows]):
    """The codec of one kind of run."""

    rate: ClassVar[str]  # the name of the file's bits per unit in a result
    batch_size: ClassVar[int]  # data scored together for the ideal size

    @property
    def scored_model(self) -> LatentModel:
        """The model as it was trained, for the bounds that a file is compared with."""

    @property
    def run_notes(self) -> Sequence[str]:
        """The assumptions made when the run was opened."""

    @property
    def fingerprint(self) -> bytes:
        """A hash of weights and tokenizer, which a compressed file holds."""

    def coder(self, header: Header) -> BitsBack[Rows]:
        """Return the coder of a file's values."""

    def default_tile(self, count: int) -> int:
        """Return how many of ``count`` data are coded together by default."""

    def read(self, source: str, coding: Coding) -> Content[Exact, Rows]:
        """Read a file for the coder."""

    def restore(self, values: Rows, header: Header) -> Exact:
        """Return the content of the file that ``values`` were read from."""

    def equal(self, a: Exact, b: Exact) -> bool:
        """Return whether two contents are the same to the last bit."""

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` where ``out`` has the suffix of another kind of data."""

    def write(self, exact: Exact, out: Output) -> None:
        """Write a content to a file or a folder."""

    def count_units(self, content: Content[Exact, Rows]) -> int:
        """Return the number of units that rates are per: numbers, or characters."""

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per unit of the data that were coded by latents."""

    def archiver_sizes(self, content: Content[Exact, Rows]) -> dict[str, int]:
        """Return the sizes of the same data in general formats, in bytes."""

    def ideal_rate(self, bits: float, content: Content[Exact, Rows]) -> JsonObject:
        """Return the ideal bits per unit, if a result has them."""

    def batch(self, values: Rows) -> tuple[Tensor, int | None]:
        """Return values as the model takes them, and how many latents to decode at once."""


# The codec of a run folder, whose kind is known once it is read.
AnyFileCodec: TypeAlias = FileCodec[Any, Any]


def header_facts(header: Header) -> JsonObject:
    """Return the facts in a file's header, for a result."""
    return {
        "fingerprint": header.fingerprint.hex(),
        "blocks": len(header.blocks),
        "particles": header.coding.particles,
        "tile": header.coding.tile,
        "dtype": header.dtype,
        "shape": json.loads(json.dumps(header.shape)),
    }
