"""What a run's codec is to the commands: data as they came, as the coder takes them, and the header of their file.

What comes back is what was given: an array with its dtype and shape, a text with its line ends and
without a newline where there was none. Labels, names of files and other arrays beside the data are
not part of them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from density.coding.bits_back import BitsBack
from density.coding.container import Header
from density.coding.data_code import Coding
from experiments.data.outputs import Output

__all__ = ["Coder", "Given"]


@dataclass(frozen=True)
class Given:
    """Data as they came, and as the codec takes them."""

    exact: Any  # an array, or the text of a file
    values: Any  # level numbers (N, *shape), or lists of tokens
    header: Header
    size: int  # bytes
    notes: tuple[str, ...] = ()  # what the reader left out or assumed


class Coder(Protocol):
    """A run's codec.

    ``read`` and ``write`` meet files; ``restore`` inverts what ``read`` did to the data.
    """

    opened: Any
    fingerprint: bytes

    def coder(self, header: Header) -> BitsBack: ...
    def read(self, source: str, coding: Coding) -> Given: ...
    def restore(self, values: Any, header: Header) -> Any: ...
    def write(self, exact: Any, out: Output) -> None: ...
    def check_name(self, out: Path) -> None: ...


def described(header: Header) -> dict[str, Any]:
    """A header in words, for a result."""
    return {
        "fingerprint": header.fingerprint.hex(),
        "blocks": len(header.blocks),
        "particles": header.coding.particles,
        "tile": header.coding.tile,
        "dtype": header.dtype,
        "shape": json.loads(json.dumps(header.shape)),
    }
