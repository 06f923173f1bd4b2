"""The interface of lossless codecs, which ``compress`` and ``decompress`` use.

The content of a file is restored exactly: an array with its dtype and shape, a text with its line
ends, also where the last line has none. Labels and further arrays of a data set are not coded. Of a
folder every file comes back, see :mod:`experiments.evaluation.folder_content`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import (
    Any,
    ClassVar,
    Generic,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

from torch import Tensor

from density.coding.archive import Archive
from density.coding.bits_back import BitsBack
from density.coding.compress import Account
from density.coding.container import Header
from density.coding.data_code import Coding, Rows
from density.model import LatentModel
from experiments.data.outputs import Output
from univae.checkpoint import JsonObject

__all__ = ["DAMAGE", "AnyFileCodec", "Content", "Exact", "FileCodec", "Part", "header_facts"]


# What parsers of facts raise where a file with right checksums is not what a writer makes.
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)

Exact = TypeVar("Exact")  # the content of a file: an array, or a text


@dataclass(frozen=True)
class Part:
    """A file of a folder, as the rows that the model codes and the rest of it."""

    rows: Any  # level numbers (N, *shape), or lists of tokens
    rest: bytes = b""  # stored beside the rows
    facts: JsonObject = field(default_factory=dict)  # needed to restore it, besides rows and rest


@dataclass(frozen=True)
class Content(Generic[Exact, Rows]):
    """The data of a file or a folder, as stored and as the coder takes them."""

    exact: Exact
    values: Rows  # level numbers (N, *shape), or lists of tokens
    header: Header
    size: int  # bytes of the input: of its files on the disk, or of the array of a built-in set
    stored: Archive  # the same content without the model
    units: int  # characters, or numbers, that rates are per
    archiver_sizes: Callable[[], dict[str, int]]  # bytes of the content in general formats
    beside: Archive | None = None  # of a folder: what is stored beside the rows
    facts: JsonObject = field(default_factory=dict)  # further keys of the result
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
    exactness: ClassVar[
        str
    ]  # what is restored of a folder's file that the model codes, in a result

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

    def default_tile(self, count: int, block: int) -> int:
        """Return how many of ``count`` data, in blocks of ``block``, are coded together."""

    def new_coding(self, coding: Coding) -> Coding:
        """Return options with those that the model implies for new files."""

    def read(self, source: str, coding: Coding) -> Content[Exact, Rows]:
        """Read a file for the coder."""

    def restore(self, values: Rows, header: Header) -> Exact:
        """Return the content of the file that ``values`` were read from."""

    def restore_stored(self, archive: Archive) -> Exact:
        """Return a content that is stored without the model."""

    def equal(self, a: Exact, b: Exact) -> bool:
        """Return whether two contents are the same to the last bit."""

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` where ``out`` has the suffix of another kind of data."""

    def is_file_name(self, out: Path) -> bool:
        """Return whether the rows of a folder's files go to one file of this name."""

    def as_file(self, values: Rows) -> Exact:
        """Return the rows of a folder's files as the content of one file."""

    def write(self, exact: Exact, out: Output) -> None:
        """Write a content to a file or a folder."""

    def check_folder(self) -> None:
        """Raise :class:`InputError` unless the model codes files of a folder one by one."""

    def split(self, content: bytes) -> Part | None:
        """Return a file of a folder as rows and rest; None where the model cannot code it."""

    def join(self, part: Part) -> bytes:
        """Return the file of a :meth:`split`; raise ValueError where the part is damaged."""

    def join_rows(self, parts: Sequence[Rows]) -> Rows:
        """Return the rows of several files one after the other."""

    def count_units(self, part: Part) -> int:
        """Return the number of units of a file of a folder that rates are per."""

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per unit of the data that were coded by latents."""

    def ideal_rate(self, bits: float, values: Rows) -> JsonObject:
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
        "stored_blocks": sum(block.is_stored for block in header.blocks),
        "particles": header.coding.particles,
        "tile": header.coding.tile,
        "dtype": header.dtype,
        "shape": json.loads(json.dumps(header.shape)),
    }
