"""The interface of lossless codecs, which ``compress`` and ``decompress`` use.

The content of a file is restored exactly: an array with its dtype and shape, a text with its line
ends, also where the last line has none. Labels, names of files and further arrays are not coded.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from density.coding.bits_back import BitsBack
from density.coding.compress import Account
from density.coding.container import Header
from density.coding.data_code import Coding
from density.model import LatentModel
from experiments.data.outputs import Output
from univae.checkpoint import JsonObject

__all__ = ["Content", "FileCodec", "header_facts"]


@dataclass(frozen=True)
class Content:
    """The data of a file, as stored and as the coder takes them."""

    exact: Any  # an array, or the text of a file
    values: Any  # level numbers (N, *shape), or lists of tokens
    header: Header
    size: int  # bytes
    notes: tuple[str, ...] = ()  # of the reader: what it left out or assumed

    def with_tile(self, tile: int) -> "Content":
        """Return the same content, coded ``tile`` data at a time."""
        coding = replace(self.header.coding, tile=tile)
        return replace(self, header=replace(self.header, coding=coding))


class FileCodec(Protocol):
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

    def coder(self, header: Header) -> BitsBack:
        """Return the coder of a file's values."""

    def default_tile(self, count: int) -> int:
        """Return how many of ``count`` data are coded together by default."""

    def read(self, source: str, coding: Coding) -> Content:
        """Read a file for the coder."""

    def restore(self, values: Any, header: Header) -> Any:
        """Return the content of the file that ``values`` were read from."""

    def equal(self, a: Any, b: Any) -> bool:
        """Return whether two contents are the same to the last bit."""

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` where ``out`` has the suffix of another kind of data."""

    def write(self, exact: Any, out: Output) -> None:
        """Write a content to a file or a folder."""

    def count_units(self, content: Content) -> int:
        """Return the number of units that rates are per: numbers, or characters."""

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per unit of the data that were coded by latents."""

    def archiver_sizes(self, content: Content) -> dict[str, int]:
        """Return the sizes of the same data in general formats, in bytes."""

    def ideal_rate(self, bits: float, content: Content) -> JsonObject:
        """Return the ideal bits per unit, if a result has them."""

    def batch(self, values: Any) -> tuple[Tensor, int | None]:
        """Return values as the model takes them, and how many latents to decode at once."""


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
