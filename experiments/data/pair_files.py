"""The registry of formats of similar texts, ``PAIR_FORMATS``: TSV, JSONL and JSON.

TSV: a line is a row, its cells separated by tabs. JSONL: a line is a row, a JSON list of cells. A
``.json`` file may instead be one list of such lists. To add a format is to write one class and to
list it before ``tsv``, which takes every other suffix.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from experiments.data.sources import has_suffix
from univae.checkpoint import JsonValue
from univae.errors import InputError
from univae.text.corpus import Removed, numbered_lines

__all__ = ["PAIR_FORMATS", "PairFormat", "Row", "brief", "read_rows"]

RULE = "a line is a list of texts"
# json.loads joins surrogate pairs into one character: a surrogate that remains is half of one
SURROGATE = re.compile("[\ud800-\udfff]")
LONGEST_VALUE = 80  # characters of a value in a message


class Row(NamedTuple):
    """The cells of a line."""

    where: str  # file and number of the line, for messages
    cells: list[JsonValue]  # texts; of JSON, any values that are no lists


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
        for number, line in numbered_lines(path, removed):
            yield Row(f"{path}, line {number}", [cell.strip() for cell in line.split("\t")])


class Jsonl:
    """A JSON list of texts a line."""

    summary = ".jsonl: a line is a JSON list of texts"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .jsonl."""
        return has_suffix(path, ".jsonl")

    def rows(self, path: Path, removed: Removed) -> Iterator[Row]:
        """Yield the list of every line."""
        for number, line in numbered_lines(path, removed):
            yield _row_of_line(path, number, line)


class Json:
    """One JSON list of lists of texts, or a list of texts a line."""

    summary = ".json: one JSON list of such lists"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .json."""
        return has_suffix(path, ".json")

    def rows(self, path: Path, removed: Removed) -> Iterator[Row]:
        """Yield the inner lists; where the file is no list of lists, the list of every line."""
        lines = list(numbered_lines(path, removed))
        rows = _outer_list("\n".join(line for _, line in lines))
        if rows is None:
            for number, line in lines:
                yield _row_of_line(path, number, line)
            return
        for number, cells in enumerate(rows, start=1):
            where = f"{path}, list {number}"
            yield Row(where, _checked_cells(cells, where))


# The first format that recognises a file reads it.
PAIR_FORMATS: Mapping[str, PairFormat] = {"jsonl": Jsonl(), "json": Json(), "tsv": Tsv()}


def read_rows(path: Path, removed: Removed) -> Iterator[Row]:
    """Yield the rows of a file in the first of :data:`PAIR_FORMATS` that recognises its name.

    Raises:
        InputError: the file is missing, empty or not UTF-8, or a line is no row.
    """
    row_format = next(entry for entry in PAIR_FORMATS.values() if entry.recognises(path))
    return row_format.rows(path, removed)


def brief(value: JsonValue) -> str:
    """Return a value as one line of JSON, cut to :data:`LONGEST_VALUE` characters."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    text = text.encode("utf-8", errors="backslashreplace").decode()
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _row_of_line(path: Path, number: int, line: str) -> Row:
    where = f"{path}, line {number}"
    return Row(where, _checked_cells(_parsed(line, where), where))


def _outer_list(content: str) -> list[JsonValue] | None:
    """Return the elements of one JSON list of lists or objects; None for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None  # parsing line by line finds the line for the message
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(row, list | dict) for row in value) else None


def _parsed(line: str, where: str) -> JsonValue:
    try:
        return json.loads(line)
    except RecursionError as error:
        raise InputError(f"{where}: nested too deep; give one list of texts a line") from error
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); give one list a line") from error


def _checked_cells(row: JsonValue, where: str) -> list[JsonValue]:
    """Return a parsed row if it is a list without inner lists or halves of characters."""
    _require_list(row, where)
    _require_flat(row, where)
    _require_characters(row, where)
    return row


def _require_list(row: JsonValue, where: str) -> None:
    if isinstance(row, dict):
        keys = ", ".join(map(str, row))
        raise InputError(
            f"{where}: {RULE}, maybe with a label; got an object with the keys {brief(keys)}; "
            'write ["a text", "another", 3.2]'
        )
    if not isinstance(row, list) or not row:
        raise InputError(f"{where}: {RULE}, maybe with a label; got {brief(row)}")


def _require_flat(row: Sequence[JsonValue], where: str) -> None:
    if any(isinstance(cell, list) for cell in row):
        raise InputError(
            f"{where}: {RULE}, and holds no other lists; got {brief(row)}; give one list a line, "
            "or one list of lists in a file whose name ends in .json"
        )


def _require_characters(row: Sequence[JsonValue], where: str) -> None:
    for cell in row:
        half = SURROGATE.search(cell) if isinstance(cell, str) else None
        if half:
            raise InputError(
                f"{where}: half of a surrogate pair ({ascii(half.group())[1:-1]}), which is no "
                "character; write the whole pair, or \\ufffd in its place"
            )
