"""Tables with named columns: .csv and .tsv by the standard library, .parquet by pyarrow.

The separator of a .csv (comma, semicolon, tab or bar) is the one that cuts its first lines into the
most cells, the same number in each. With a semicolon, numbers may have a decimal comma.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from density.tables.columns import Columns
from density.tables.inference import Choice, infer
from density.tables.raw import RawTable, is_missing
from experiments.data.arrays import Data
from experiments.data.frame_files import is_frame_file, read_frame, read_parquet
from experiments.data.sources import has_suffix
from univae.errors import InputError

__all__ = ["Schema", "TableFile", "as_data", "as_numbers", "read_raw"]

# The schema of a trained model, or the columns and kinds that a user names for a new one.
Schema: TypeAlias = Choice | Columns

SUFFIXES = (".csv", ".tsv", ".parquet")
SEPARATORS = (",", ";", "\t", "|")
SNIFFED = 20  # lines that decide on the separator
ROW_NAMES = "row names"  # the first column where it has no name
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True)
class TableFile:
    """A table whose columns have names."""

    schema: Schema = field(default_factory=Choice)

    summary = ".csv, .tsv or .parquet"

    def recognises(self, path: Path) -> bool:
        """Return whether the name ends in .csv, .tsv or .parquet, or is that of a stored frame."""
        return (has_suffix(path, *SUFFIXES) or is_frame_file(path)) and path.is_file()

    def read(self, path: Path) -> Data:
        """Return the columns as numbers, with their schema."""
        return as_data(read_raw(path), self.schema, path.stem)


def as_data(table: RawTable, schema: Schema, name: str) -> Data:
    """Return a table as encoded numbers with its schema, which is inferred from a choice.

    Raises:
        InputError: the table has no rows, lacks a column, or holds a cell that does not fit.
    """
    if not len(table):
        raise InputError(f"{table.source} has no rows; give a table of two rows or more")
    notes = table.notes
    columns = schema
    if isinstance(columns, Choice):
        columns, inferred = infer(table, columns)
        notes = (*notes, *inferred)
    _require_columns(table, columns)
    values = columns.encode(table)
    missing = int(np.isnan(values).sum())
    if missing:
        rows = int(np.isnan(values).any(1).sum())
        notes = (
            *notes,
            f"{table.source}: missing cells: {missing}, in {rows} of {len(table)} rows",
        )
    return Data(values, None, None, name, "table", notes=notes, columns=columns, table=table)


def as_numbers(data: Data, who: str) -> Data:
    """Return a table as plain numbers, without kinds of columns; other data unchanged.

    Args:
        data: the data to convert.
        who: what takes plain numbers only, for messages.

    Raises:
        InputError: a column holds texts, or a cell is missing.
    """
    if data.columns is None:
        return data
    for i, column in enumerate(data.columns):
        if any(isinstance(category, str) for category in column.categories):
            raise InputError(
                f"{data.name}: column {column.name!r} holds texts; {who} takes numbers; drop it"
            )
        if np.isnan(data.values[:, i]).any():
            raise InputError(
                f"{data.name}: column {column.name!r} has missing cells; {who} takes complete "
                "rows; fill or remove them"
            )
    cells = data.columns.decode(data.values)
    values = np.stack([np.asarray(column, np.float64) for column in cells.values()], 1)
    return replace(data, values=values, columns=Columns.numeric(data.columns.names))


def read_raw(path: Path) -> RawTable:
    """Return the cells of a file as they are written.

    Raises:
        InputError: the file is damaged, or its lines have different numbers of cells.
    """
    if has_suffix(path, ".parquet"):
        return read_parquet(path)
    if is_frame_file(path):
        return read_frame(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    separator = "\t" if has_suffix(path, ".tsv") else _separator(text)
    table = _table(str(path), *_records(text, separator, str(path)), separator)
    if text.endswith(("\n", "\r")):
        return table
    return replace(
        table, notes=(*table.notes, f"{path}: no line end at the end; it may be cut off")
    )


def _separator(text: str) -> str:
    """Return the separator that gives the first lines the most cells, all the same number."""
    best = ","
    most = 1
    head = "\n".join(text.splitlines()[: SNIFFED + 1])
    for separator in SEPARATORS:
        try:
            rows = list(csv.reader(io.StringIO(head, newline=""), delimiter=separator))
        except csv.Error:
            continue
        widths = {len(row) for row in rows[1:SNIFFED] if row}
        if len(widths) == 1 and max(widths) > most:
            best = separator
            most = max(widths)
    return best


def _records(text: str, separator: str, source: str) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a file, blank lines left out, and the line in which each ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{source}, line {reader.line_num}: {error}; correct it") from error
    return rows, lines


def _table(source: str, rows: list[list[str]], lines: list[int], separator: str) -> RawTable:
    """Return rows as columns, with the names of the first row where it is a header."""
    if not rows:
        raise InputError(f"{source} has no rows; give a table of two rows or more")
    if len(rows) > 1 and len(rows[1]) == len(rows[0]) + 1:
        rows[0].insert(0, "")  # the names of rows, as R writes them, have no header
    _require_rectangular(source, rows, lines)

    has_header = _has_header(rows)
    names = tuple(_name(cell, i) for i, cell in enumerate(rows[0]))
    notes: tuple[str, ...] = ()
    if not has_header:
        names = tuple(f"c{i}" for i in range(len(rows[0])))
        notes = (f"{source}: line {lines[0]} is no header; the columns are called c0, c1, ...",)
    body = rows[1:] if has_header else rows
    cells = tuple(_objects([row[i] for row in body]) for i in range(len(names)))
    table = RawTable(source, names, cells, np.array(lines[len(rows) - len(body) :]), notes=notes)
    if separator != "," and _has_decimal_comma(cells):
        comma = f"{source}: numbers have a decimal comma"
        table = replace(table, decimal=",", notes=(*notes, comma))
    return table


def _require_rectangular(source: str, rows: Sequence[list[str]], lines: Sequence[int]) -> None:
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise InputError(
                f"{source}, line {line}: has {len(row)} of the {width} cells of line {lines[0]}; "
                "add the missing ones, or put a cell that holds the separator into quotes"
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
            is_numeric and not is_missing(cell) and not _is_number(cell)
            for cell, is_numeric in zip(first, numeric, strict=True)
        )
    if any(_is_number(cell) for cell in first):
        return False
    return len(set(first)) == len(first) and not any(
        cell in column for cell, column in zip(first, columns, strict=True)
    )


def _all_numbers(cells: Sequence[str]) -> bool:
    observed = [cell for cell in cells if not is_missing(cell)]
    numbers = sum(_is_number(cell) for cell in observed)
    return numbers > len(observed) / 2


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _has_decimal_comma(columns: Sequence[np.ndarray]) -> bool:
    return any(DECIMAL_COMMA.fullmatch(cell.strip()) for column in columns for cell in column)


def _name(cell: str, position: int) -> str:
    return cell.strip() or (f"c{position}" if position else ROW_NAMES)


def _objects(cells: Sequence[str]) -> np.ndarray:
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


def _require_columns(table: RawTable, columns: Columns) -> None:
    missing = [name for name in columns.names if name not in table.names]
    if missing:
        raise InputError(
            f"{table.source}: lacks the column {', '.join(map(repr, missing))} of the training "
            f"set; it has {', '.join(table.names)}"
        )
