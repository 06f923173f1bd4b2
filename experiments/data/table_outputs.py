"""Cells of a table as columns of a file: as text in the dialect of the input, or with types."""

from collections.abc import Sequence

from density.tables.raw import RawTable

__all__ = ["joined_columns", "number_text", "separator_of"]


def joined_columns(table: RawTable, *, as_text: bool) -> dict[str, Sequence[object]]:
    """Return the columns of a table by name, as they were written or as numbers and texts."""
    cells = table.written if as_text else table.values
    return {name: cells(name) for name in table.names}


def separator_of(table: RawTable | None) -> str:
    """Return the separator of a .csv that holds a table: that of its file, a comma for tabs."""
    return "," if table is None or table.separator == "\t" else table.separator


def number_text(value: object, decimal: str) -> object:
    """Return a number as text with a decimal mark; texts and None unchanged.

    >>> number_text(1.5, ","), number_text(3, ","), number_text("a.b", ","), number_text(None, ".")
    ('1,5', '3', 'a.b', None)
    """
    if value is None or isinstance(value, str):
        return value
    return str(value).replace(".", decimal)
