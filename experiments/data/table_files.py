"""Tables with named columns: .csv and .tsv by the standard library, .parquet by pyarrow."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from density.tables.columns import Columns
from density.tables.inference import Choice, infer
from density.tables.raw import RawTable
from experiments.data.arrays import Data
from experiments.data.delimited_tables import read_delimited
from experiments.data.frame_files import is_frame_file, read_frame, read_parquet
from experiments.data.sources import has_suffix
from univae.errors import InputError, brief_list

__all__ = ["Schema", "TableFile", "as_data", "as_numbers", "read_raw"]

# The schema of a trained model, or the columns and kinds that a user names for a new one.
Schema: TypeAlias = Choice | Columns

SUFFIXES = (".csv", ".tsv", ".parquet")


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
    table = replace(table, missing=schema.missing)
    notes = table.notes
    columns = schema
    if isinstance(columns, Choice):
        columns, inferred = infer(table, columns)
        notes = (*notes, *inferred)
    _require_columns(table, columns)
    values = columns.encode(table)
    notes = (*notes, *_notes_on_cells(table, columns))
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
    return read_delimited(path)


def _notes_on_cells(table: RawTable, columns: Columns) -> list[str]:
    """Return notes on numbers that are rounded, and on texts of categories read as missing."""
    notes = []
    for column in columns:
        where = f"{table.source}: column {column.name!r}"
        has_texts = any(isinstance(category, str) for category in column.categories)
        if not has_texts and table.has_rounded(column.name):
            notes.append(f"{where}: whole numbers beyond 2**53 are rounded to float64")
        marks = table.marks(column.name)
        if marks and has_texts:
            count = marks.total()
            cells = "cell" if count == 1 else "cells"
            notes.append(f"{where}: {brief_list(sorted(marks))} read as missing ({count} {cells})")
    return notes


def _require_columns(table: RawTable, columns: Columns) -> None:
    missing = [name for name in columns.names if name not in table.names]
    if missing:
        raise InputError(
            f"{table.source}: lacks the column {brief_list(map(repr, missing))} of the training "
            f"set; it has {brief_list(table.names)}"
        )
