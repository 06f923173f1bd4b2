"""Rows of cells of text files: separated by commas with quotes (CSV), or by tabs (TSV).

CSV is that of RFC 4180: a cell in double quotes may hold separators, line ends and doubled quotes.
The separator is a comma, a semicolon or a tab, whichever the first lines are consistent with. Cells
between tabs are taken as they are; a quoted cell that goes on in the next line is joined.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from univae.checkpoint import JsonValue
from univae.errors import InputError
from univae.text.lines import BYTE_ORDER_MARK, LONGEST_LINE, Removed, all_lines, numbered_lines

__all__ = ["Row", "csv_rows", "parsed_rows", "tsv_rows"]

SNIFFED = 50  # lines whose separators are counted
MOST_JOINED = 20  # lines of one quoted cell between tabs
QUOTE = '"'

T = TypeVar("T")


class Row(NamedTuple):
    """The cells of a line."""

    where: str  # file and number of the line, for messages
    cells: list[JsonValue]  # texts; of JSON, any values
    names: tuple[str, ...] = ()  # the keys of a JSON object


@runtime_checkable
class CsvReader(Protocol):
    """A reader of the module csv."""

    line_num: int  # lines read so far

    def __next__(self) -> list[str]:
        """Return the cells of the next row."""
        ...


def csv_rows(path: Path, removed: Removed) -> Iterator[Row]:
    """Yield the rows of a CSV file; ``removed`` counts blank lines and line ends inside cells.

    A file whose first line holds a tab is read as :func:`tsv_rows` does.

    Raises:
        InputError: the file is missing, empty or not UTF-8, or a quote is not closed.
    """
    first = list(islice(all_lines(path, Removed()), SNIFFED))
    if first and "\t" in first[0]:
        yield from tsv_rows(path, removed)
        return
    csv.field_size_limit(LONGEST_LINE)
    lines = (f"{line}\n" for line in _uncounted_ends(all_lines(path, removed), removed))
    reader = csv.reader(lines, delimiter=_separator(first), strict=True)
    rows = 0
    for number, cells in parsed_rows(reader, str(path)):
        if not any(cell.strip() for cell in cells):
            removed.blank_lines += 1
            continue
        rows += 1
        yield Row(f"{path}, line {number}", [_one_line(cell, removed) for cell in cells])
    if not rows:
        problem = "has no line with a text" if reader.line_num else "is empty"
        raise InputError(f"{path} {problem}; give a UTF-8 file with one text per line")


def tsv_rows(path: Path, removed: Removed) -> Iterator[Row]:
    """Yield the cells between the tabs of every line, without white space at their ends."""
    lines = _uncounted_ends(numbered_lines(path, removed), removed)
    buffer: deque[tuple[int, str]] = deque()
    width = 0
    for number, line in chain(islice(lines, 1), _buffered(buffer, lines)):
        cells = _stripped(line.split("\t"))
        width = width or len(cells)
        if len(cells) < width and _is_open(cells[-1]):
            cells = _joined(cells, width, buffer, lines)
        yield Row(f"{path}, line {number}", [_unquoted(cell) for cell in cells])


def parsed_rows(reader: CsvReader, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line in which each row begins, and its cells, of a strict reader of CSV.

    Raises:
        InputError: a quote is not closed, or text follows a closed one; the message names the line
            in which the row begins.
    """
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{source}, line {number}: no CSV ({error}); close every quote, and double those "
                "inside a quoted text"
            ) from error
        yield number, cells


def _uncounted_ends(lines: Iterator[T], removed: Removed) -> Iterator[T]:
    """Yield lines; the carriage returns at their ends, as RFC 4180 has them, are not counted."""
    carriage_returns = removed.carriage_returns
    for line in lines:
        removed.carriage_returns = carriage_returns
        yield line


def _separator(lines: Sequence[str]) -> str:
    """Return a comma, or a semicolon where the lines are consistent with it alone."""
    widths = {
        separator: {line.count(separator) for line in lines if line.strip()} for separator in ",;"
    }

    def is_consistent(separator: str) -> bool:
        return len(widths[separator]) == 1 and max(widths[separator]) > 0

    header_has_commas = bool(lines) and "," in lines[0]
    if is_consistent(";") and not is_consistent(","):
        return ";"
    return "," if header_has_commas or not (lines and ";" in lines[0]) else ";"


def _one_line(cell: str, removed: Removed) -> str:
    """Return a cell with spaces for its line ends, which are counted."""
    text = cell.strip().strip(BYTE_ORDER_MARK)
    ends = text.count("\n")
    if not ends:
        return text
    removed.line_ends += ends
    return " ".join(line.strip() for line in text.split("\n"))


def _buffered(
    buffer: deque[tuple[int, str]], lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, str]]:
    """Yield the lines that were put back into ``buffer``, then those of ``lines``."""
    while True:
        if buffer:
            yield buffer.popleft()
            continue
        line = next(lines, None)
        if line is None:
            return
        yield line


def _joined(
    cells: list[str],
    width: int,
    buffer: deque[tuple[int, str]],
    lines: Iterator[tuple[int, str]],
) -> list[str]:
    """Return the cells of a line and of those after it that complete its open quote.

    The lines after it are put back where they do not give ``width`` cells.
    """
    joined = list(cells)
    taken: list[tuple[int, str]] = []
    for number, line in islice(_buffered(buffer, lines), MOST_JOINED):
        taken.append((number, line))
        first, *others = _stripped(line.split("\t"))
        joined[-1] = f"{joined[-1]} {first}"
        joined += others
        if len(joined) == width and not _is_open(joined[-1]):
            return joined
        if len(joined) >= width:
            break
    buffer.extendleft(reversed(taken))
    return cells


def _stripped(cells: Sequence[str]) -> list[str]:
    return [cell.strip().strip(BYTE_ORDER_MARK) for cell in cells]


def _is_open(cell: str) -> bool:
    """Return whether a cell begins with a quote that it does not close."""
    return cell.startswith(QUOTE) and cell.count(QUOTE) % 2 == 1


def _unquoted(cell: str) -> str:
    """Return the content of a cell that is quoted as in CSV and holds doubled quotes.

    Every other cell stays as it is: a text may begin and end with quotes of its own.
    """
    content = cell[1:-1]
    is_quoted = len(cell) > 1 and cell.startswith(QUOTE) and cell.endswith(QUOTE)
    doubled = QUOTE + QUOTE
    if not is_quoted or doubled not in content or QUOTE in content.replace(doubled, ""):
        return cell
    return content.replace(doubled, QUOTE)
