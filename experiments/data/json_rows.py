"""Rows of JSON files: a list, an object or a text a line, or one list of these in the file."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from experiments.data.delimited import Row
from experiments.data.memory_bounds import require_plausible
from univae.checkpoint import JsonValue
from univae.errors import InputError
from univae.text.lines import COMPRESSED, Removed, all_lines, numbered_lines

__all__ = ["brief", "json_rows", "json_texts", "jsonl_rows"]

RULE = "a line is a list of texts"
# json.loads joins surrogate pairs into one character: a surrogate that remains is half of one
SURROGATE = re.compile("[\ud800-\udfff]")
LONGEST_VALUE = 80  # characters of a value in a message


def jsonl_rows(path: Path, removed: Removed) -> Iterator[Row]:
    """Yield the row of every line; ``removed`` counts blank lines.

    Raises:
        InputError: a line is not JSON, or no row; the message names it.
    """
    for number, line in numbered_lines(path, removed):
        where = f"{path}, line {number}"
        yield _row(_parsed(line, where), where)


def json_rows(path: Path, removed: Removed) -> Iterator[Row]:
    """Yield the elements of the file's one list; where it holds no such list, its lines.

    Raises:
        InputError: a line or an element is no row; the message names it.
    """
    lines = list(_bounded(numbered_lines(path, removed), path))
    values = _list_of("\n".join(line for _, line in lines), list, dict)
    if values is None:
        for number, line in lines:
            where = f"{path}, line {number}"
            yield _row(_parsed(line, where), where)
        return
    for number, value in enumerate(values, start=1):
        where = f"{path}, list {number}"
        yield _row(value, where)


def json_texts(path: Path) -> Iterator[Row] | None:
    """Return a row for each text of a file that is one JSON list of texts, otherwise None.

    Raises:
        InputError: the file is missing, empty or not UTF-8; while reading: a text holds half of a
            character.
    """
    content = "\n".join(line for _, line in _bounded(enumerate(all_lines(path, Removed())), path))
    values = _list_of(content, str)
    if values is None:
        return None
    return (_row(value, f"{path}, text {i}") for i, value in enumerate(values, start=1))


def _bounded(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that is parsed as a whole, see
    :mod:`experiments.data.memory_bounds`.

    Raises:
        InputError: the file is compressed, and unpacks to far more than its size.
    """
    packed = path.stat().st_size if path.suffix.lower() in COMPRESSED else None
    size = 0
    for number, line in lines:
        size += len(line)
        if packed is not None:
            require_plausible(packed, size, str(path))
        yield number, line


def brief(value: JsonValue) -> str:
    """Return a value as one line of JSON, cut to :data:`LONGEST_VALUE` characters."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    text = text.encode("utf-8", errors="backslashreplace").decode()
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _list_of(content: str, *types: type) -> list[JsonValue] | None:
    """Return the elements of one JSON list of values of these types; None for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None  # parsing line by line finds the line for the message
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(row, types) for row in value) else None


def _parsed(line: str, where: str) -> JsonValue:
    try:
        return json.loads(line)
    except RecursionError as error:
        raise InputError(f"{where}: nested too deep; give one list of texts a line") from error
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); give one list a line") from error


def _row(value: JsonValue, where: str) -> Row:
    """Return a parsed line as a row, if it holds no halves of characters."""
    if isinstance(value, dict) and value:
        for cell in value.values():
            _require_characters(cell if isinstance(cell, list) else [cell], where)
        return Row(where, list(value.values()), tuple(map(str, value)))
    cells = [value] if isinstance(value, str) else value
    if not isinstance(cells, list) or not cells:
        raise InputError(f"{where}: {RULE}, maybe with a label; got {brief(value)}")
    if any(isinstance(cell, list) for cell in cells):
        raise InputError(
            f"{where}: {RULE}, and holds no other lists; got {brief(cells)}; give one list a line, "
            "or one list of lists in a file whose name ends in .json"
        )
    _require_characters(cells, where)
    return Row(where, cells)


def _require_characters(cells: Sequence[JsonValue], where: str) -> None:
    for cell in cells:
        half = SURROGATE.search(cell) if isinstance(cell, str) else None
        if half:
            raise InputError(
                f"{where}: half of a surrogate pair ({ascii(half.group())[1:-1]}), which is no "
                "character; write the whole pair, or \\ufffd in its place"
            )
