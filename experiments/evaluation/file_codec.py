"""The codec of a run, as the commands see it: data as stored, as coded, and the file's header.

Decompression restores the stored array with its dtype and shape, or the text with its line ends and
without a final newline where there was none. Labels, names of files and other arrays of the source
are not coded.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from density.coding.bits_back import BitsBack
from density.coding.container import Header
from density.coding.data_code import Coding
from experiments.data.outputs import Output
from univae.checkpoint import JsonObject

__all__ = ["CodecInput", "Coder", "described"]


@dataclass(frozen=True)
class CodecInput:
    """Data as stored, and as the codec takes them."""

    exact: Any  # an array, or the text of a file, to be restored bit for bit
    values: Any  # level numbers (N, *shape), or lists of tokens
    header: Header
    size: int  # bytes of ``exact``
    notes: tuple[str, ...] = ()  # what the reader left out or assumed


class Coder(Protocol):
    """A run's codec."""

    opened: Any  # the run
    fingerprint: bytes  # of the weights

    def coder(self, header: Header) -> BitsBack:
        """Return the bits-back coder with the settings of a file's header."""
        ...

    def read(self, source: str, coding: Coding) -> CodecInput:
        """Return the data of a file or built-in set, and a header for them.

        Raises:
            InputError: the model of the run does not code such data.
        """
        ...

    def restore(self, values: Any, header: Header) -> Any:
        """Return the data as stored, from what the coder decodes: the inverse of :meth:`read`."""
        ...

    def write(self, exact: Any, out: Output) -> None:
        """Write the data as stored."""
        ...

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` for an output whose suffix is of another kind of data."""
        ...


def described(header: Header) -> JsonObject:
    """Return the fields of a header for the result of a command."""
    return {
        "fingerprint": header.fingerprint.hex(),
        "blocks": len(header.blocks),
        "particles": header.coding.particles,
        "tile": header.coding.tile,
        "dtype": header.dtype,
        "shape": json.loads(json.dumps(header.shape)),
    }
