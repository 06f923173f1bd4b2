"""Files of results that are written while the rows come, or at once where a format asks for that.

A file of columns and a .npy take rows as they come, and keep none; other formats are
:class:`Gathered`.
"""

import csv
import json
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np

from experiments.data.contents import Contents, plain
from univae.checkpoint import JsonObject, to_json

__all__ = ["ArrayRows", "Csv", "Gathered", "GrowingFile", "JsonLines", "json_line"]


@runtime_checkable
class GrowingFile(Protocol):
    """A file of a result whose rows come in parts, of the same names."""

    def add(self, contents: Contents) -> None:
        """Add rows."""

    def finish(self) -> None:
        """Complete the file; at least one part has been added."""


class Csv:
    """Cells between separators, under a line of names; an empty separator is the result's own."""

    def __init__(self, file: BinaryIO, separator: str = "") -> None:
        self._file = file
        self._separator = separator
        self._writer: Any = None  # of the csv module, which names no type for it

    def add(self, contents: Contents) -> None:
        """Write rows, the first after the names."""
        if self._writer is None:
            self._writer = csv.writer(self, delimiter=self._separator or contents.separator)
            self._writer.writerow(contents.columns)
        for cells in zip(*contents.columns.values(), strict=True):
            self._writer.writerow(["" if cell != cell else cell for cell in cells])  # NaN: no value

    def finish(self) -> None:
        """Do nothing: every row is written."""

    def write(self, text: str) -> None:
        """Write the text of a row, for the csv module."""
        self._file.write(text.encode())


class JsonLines:
    """An object a line, with the name of every cell."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, contents: Contents) -> None:
        """Write rows."""
        columns = [plain(column) for column in contents.columns.values()]
        for cells in zip(*columns, strict=True):
            record = dict(zip(contents.columns, cells, strict=True))
            self._file.write(json_line(record).encode())

    def finish(self) -> None:
        """Do nothing: every row is written."""


class ArrayRows:
    """A .npy of the first array; its header, of one length, gets the number of rows at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._header: dict[str, Any] = {}
        self._count = 0

    def add(self, contents: Contents) -> None:
        """Write the rows of an array."""
        array = np.ascontiguousarray(next(iter(contents.arrays.values())))
        if not self._header:
            self._header = np.lib.format.header_data_from_array_1_0(array)
            self._write_header()
        self._count += len(array)
        self._file.write(array.data if array.size else b"")

    def finish(self) -> None:
        """Write the number of rows into the header."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        shape = (self._count, *self._header["shape"][1:])
        np.lib.format.write_array_header_1_0(self._file, {**self._header, "shape": shape})


class Gathered:
    """A file that is written at once: all rows are kept until then."""

    def __init__(self, file: BinaryIO, write: Callable[[Contents, BinaryIO], object]) -> None:
        self._file = file
        self._write = write
        self._parts: list[Contents] = []

    def add(self, contents: Contents) -> None:
        """Keep rows."""
        self._parts.append(contents)

    def finish(self) -> None:
        """Write all rows."""
        self._write(Contents.joined(self._parts), self._file)


def json_line(record: JsonObject) -> str:
    """Return a record as a line of a .jsonl file."""
    return f"{json.dumps(to_json(record), ensure_ascii=False, allow_nan=False)}\n"
