"""The registry of formats of rows of texts, ``PAIR_FORMATS``: JSONL, JSON, CSV and TSV.

To add a format is to write one class and to list it before ``tsv``, which takes every other suffix.
Each format may be compressed (.gz, .bz2, .xz). What the columns of a row mean is in
:mod:`experiments.data.columns` and :mod:`experiments.data.pair_layouts`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from experiments.data.delimited import Row, csv_rows, tsv_rows
from experiments.data.json_rows import brief, json_rows, jsonl_rows
from experiments.data.remote import local_copy
from univae.text.lines import Removed, inner_suffix

__all__ = ["PAIR_FORMATS", "PairFormat", "Row", "brief", "read_rows"]


@runtime_checkable
class PairFormat(Protocol):
    """A file format of rows of texts."""

    @property
    def summary(self) -> str:
        """The format in a few words."""
        ...

    def recognises(self, path: Path) -> bool:
        """Return whether a file is of this format, by its name."""
        ...

    def rows(self, path: Path, removed: Removed) -> Iterator[Row]:
        """Yield the rows of a file; ``removed`` counts blank lines.

        Raises:
            InputError: a line is no row of this format; the message names it.
        """
        ...


class Tsv:
    """Cells separated by tabs, white space at their ends removed."""

    summary = "a line is texts separated by tabs"

    def recognises(self, path: Path) -> bool:
        """Return True: a file of any other suffix has cells separated by tabs."""
        return True

    def rows(self, path: Path, removed: Removed) -> Iterator[Row]:
        """Yield the cells of every line."""
        return tsv_rows(path, removed)


class Csv:
    """Cells separated by commas, semicolons or tabs, maybe in quotes."""

    summary = ".csv: texts separated by commas, in quotes where they hold one"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .csv."""
        return inner_suffix(path) == ".csv"

    def rows(self, path: Path, removed: Removed) -> Iterator[Row]:
        """Yield the cells of every record."""
        return csv_rows(path, removed)


class Jsonl:
    """A JSON list of texts, or an object, a line."""

    summary = ".jsonl: a line is a JSON list of texts, or an object"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .jsonl."""
        return inner_suffix(path) in (".jsonl", ".ndjson")

    def rows(self, path: Path, removed: Removed) -> Iterator[Row]:
        """Yield the list or object of every line."""
        return jsonl_rows(path, removed)


class Json:
    """One JSON list of lists or objects, or one of these a line."""

    summary = ".json: one JSON list of such lists"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .json."""
        return inner_suffix(path) == ".json"

    def rows(self, path: Path, removed: Removed) -> Iterator[Row]:
        """Yield the inner lists; where the file is no list of lists, the list of every line."""
        return json_rows(path, removed)


# The first format that recognises a file reads it.
PAIR_FORMATS: Mapping[str, PairFormat] = {
    "jsonl": Jsonl(),
    "json": Json(),
    "csv": Csv(),
    "tsv": Tsv(),
}


def read_rows(path: Path, removed: Removed) -> Iterator[Row]:
    """Yield the rows of a file in the first of :data:`PAIR_FORMATS` that recognises its name.

    The file may be one of an object store; see :mod:`experiments.data.remote`.

    Raises:
        InputError: the file is missing, empty or not UTF-8, or a line is no row.
    """
    with local_copy(path) as copy:
        row_format = next(entry for entry in PAIR_FORMATS.values() if entry.recognises(copy))
        yield from row_format.rows(copy, removed)
