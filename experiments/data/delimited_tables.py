"""Tables as text: the separator, the names of the columns, and the decimal marks of the numbers.

The separator of a .csv (comma, semicolon, tab or bar) is the one that cuts its first lines into the
most cells, the same number in each, and the header into as many. A line of names that has one cell
less than all others lacks the name of the first column, as R writes tables with row names; where
the last cell of all others is empty, they end with a separator.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from density.tables.raw import RawTable, is_missing
from experiments.data.decimal_marks import decimal_marks, is_number
from experiments.data.delimited import parsed_rows
from experiments.data.sources import has_suffix
from univae.errors import InputError, brief_list

__all__ = ["read_delimited"]

SEPARATORS = (",", ";", "\t", "|")
SNIFFED = 20  # lines that decide on the separator
ROW_NAMES = "row names"  # the first column where it has no name


def read_delimited(path: Path) -> RawTable:
    """Return the cells of a .csv or .tsv file as they are written.

    Raises:
        InputError: the file is not UTF-8 or no CSV, or its lines have different numbers of cells.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    separator = "\t" if has_suffix(path, ".tsv") else _separator(text)
    rows, lines = _records(text, separator, str(path))
    if not rows:
        raise InputError(f"{path} has no rows; give a table of two rows or more")
    notes = _align_header(str(path), rows)
    _require_rectangular(str(path), rows, lines)
    if not text.endswith(("\n", "\r")):
        notes.append(f"{path}: no line end at the end; it may be cut off")
    return _table(str(path), rows, lines, separator, notes)


def _separator(text: str) -> str:
    """Return the separator of the first lines; see the module."""
    head = "\n".join(text.splitlines()[: SNIFFED + 1])
    header = head.partition("\n")[0]
    best = max(SEPARATORS, key=header.count)  # the first of them where there is none
    most = (0, 1)
    for separator in SEPARATORS:
        try:
            rows = list(csv.reader(io.StringIO(head, newline=""), delimiter=separator))
        except csv.Error:
            continue
        widths = {len(row) for row in rows[1:SNIFFED] if row}
        if len(widths) != 1 or max(widths) == 1:
            continue
        width = max(widths)
        # 2: a name for every column; 1: one less, but several
        names = len(rows[0])
        fit = 2 if names == width else int(1 < names == width - 1)
        if (fit, width) > most:
            best = separator
            most = (fit, width)
    return best


def _records(text: str, separator: str, source: str) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a file, blank lines left out, and the line in which each ends."""
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    for _, row in parsed_rows(reader, source):
        if any(cell.strip() for cell in row):
            rows.append(row)
            lines.append(reader.line_num)
    return rows, lines


def _align_header(source: str, rows: list[list[str]]) -> list[str]:
    """Give the header as many cells as all other rows have, if they have one more; return notes."""
    header, *body = rows
    if not body or any(len(row) != len(header) + 1 for row in body):
        return []
    if any(row[-1].strip() for row in body):
        header.insert(0, "")
        return [
            f"{source}: line 1 names one column less than the rows have cells; "
            f"the first column is called {ROW_NAMES!r}"
        ]
    for row in body:
        row.pop()
    return [f"{source}: every row ends with a separator; the empty column is left out"]


def _require_rectangular(source: str, rows: Sequence[list[str]], lines: Sequence[int]) -> None:
    """Raise InputError for the first row whose number of cells is not that of most rows."""
    widths = Counter(len(row) for row in rows)
    common = max(widths.values())
    width = next(len(row) for row in rows if widths[len(row)] == common)
    wrong = [i for i, row in enumerate(rows) if len(row) != width]
    if not wrong:
        return
    if len(wrong) > 1 and len(rows[0]) == width - 1:
        wrong.pop(0)  # a header of one cell less is that of a table with row names
    cells = len(rows[wrong[0]])
    way_out = "add the missing ones, or remove the line"
    if cells > width:
        way_out = "remove those too many, or put a cell that holds the separator into quotes"
    raise InputError(
        f"{source}, line {lines[wrong[0]]}: must have {width} cells, as most lines have; "
        f"has {cells}; {way_out}"
    )


def _table(
    source: str,
    rows: list[list[str]],
    lines: Sequence[int],
    separator: str,
    notes: Sequence[str],
) -> RawTable:
    """Return rows as columns, with the names of the first row where it is a header."""
    has_header = _has_header(rows)
    names = tuple(_name(cell, i) for i, cell in enumerate(rows[0]))
    notes = list(notes)
    if not has_header:
        names = tuple(f"c{i}" for i in range(len(rows[0])))
        notes.append(f"{source}: line {lines[0]} is no header; the columns are called c0, c1, ...")
    body = rows[1:] if has_header else rows
    cells = tuple(_objects([row[i] for row in body]) for i in range(len(names)))

    marks = decimal_marks(cells)
    commas = [names[i] for i in sorted(marks.commas)]
    if commas:
        notes.append(f"{source}: numbers have a decimal comma in {brief_list(commas)}")
    return RawTable(
        source,
        names,
        cells,
        np.array(lines[len(rows) - len(body) :]),
        decimal=marks.mark,
        decimal_commas=frozenset(commas),
        unclear=frozenset(names[i] for i in marks.unclear),
        separator=separator,
        notes=tuple(notes),
    )


def _has_header(rows: Sequence[list[str]]) -> bool:
    """Return whether the first row names the columns.

    It does where one of its cells is no number above a column of numbers, or, without a column of
    numbers, where its cells differ and none occurs again in its column.
    """
    first = rows[0]
    columns = list(zip(*rows[1:], strict=True)) if len(rows) > 1 else [()] * len(first)
    numeric = [_all_numbers(column) for column in columns]
    if any(numeric):
        return any(
            is_numeric and not is_missing(cell) and not is_number(cell)
            for cell, is_numeric in zip(first, numeric, strict=True)
        )
    if any(is_number(cell) for cell in first):
        return False
    return len(set(first)) == len(first) and not any(
        cell in column for cell, column in zip(first, columns, strict=True)
    )


def _all_numbers(cells: Sequence[str]) -> bool:
    observed = [cell for cell in cells if not is_missing(cell)]
    numbers = sum(is_number(cell) for cell in observed)
    return numbers > len(observed) / 2


def _name(cell: str, position: int) -> str:
    return cell.strip() or (f"c{position}" if position else ROW_NAMES)


def _objects(cells: Sequence[str]) -> np.ndarray:
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array
