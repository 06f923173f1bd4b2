"""A table as it was read: names, cells of text or numbers, and the line of every row."""

from dataclasses import dataclass

import numpy as np

from univae.errors import InputError

__all__ = ["MISSING", "RawTable", "is_missing"]

LISTED = 20  # columns that a message lists

# Texts that stand for a missing cell, in lower case.
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-", "."))


@dataclass(frozen=True)
class RawTable:
    """The cells of a table, column by column, before they are interpreted.

    Args:
        source: the file, for messages.
        names: the names of the columns.
        cells: a column each, (N,): float64 with NaN for missing cells, or objects: texts, truth
            values, and None for missing cells.
        lines: the line of the file in which each row ends, (N,); None where there are no lines.
        decimal: the decimal mark of numbers in texts.
        notes: what the reader assumed, a line each.
        typed: whether cells have the types of their user, as in a data frame: a text stays a text
            where it reads as a number or as a mark of a missing cell. In files they are guessed.
        categorical: columns that the user declared to be categories.
    """

    source: str
    names: tuple[str, ...]
    cells: tuple[np.ndarray, ...]
    lines: np.ndarray | None = None
    decimal: str = "."
    notes: tuple[str, ...] = ()
    typed: bool = False
    categorical: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise InputError(
                f"{self.source}: column names must differ; {', '.join(map(repr, repeated))} occurs "
                "more than once; rename it"
            )

    def __len__(self) -> int:
        return len(self.cells[0]) if self.cells else 0

    def column(self, name: str) -> np.ndarray:
        """Return the cells of a column.

        Raises:
            InputError: there is no such column.
        """
        if name not in self.names:
            others = ", ".join(self.names[:LISTED]) + (", ..." if len(self.names) > LISTED else "")
            raise InputError(f"{self.source}: there is no column {name!r}; it has {others}")
        return self.cells[self.names.index(name)]

    def place(self, row: int, name: str) -> str:
        """Return the words for one cell in a message: the file, the line and the column."""
        at = f"row {row} (from 0)" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.source}, {at}, column {name!r}"

    def observed(self, name: str) -> np.ndarray:
        """Return which cells of a column are not missing, (N,).

        A text like "none" or "?" is missing, but for a column of texts of a typed table.
        """
        cells = self.column(name)
        if cells.dtype == np.float64:
            return np.asarray(~np.isnan(cells))
        if self.typed:
            return np.array([cell is not None for cell in cells], dtype=bool)
        return np.array([not is_missing(cell) for cell in cells], dtype=bool)

    def holds_texts(self, name: str) -> bool:
        """Return whether a column holds texts or truth values that are not to read as numbers."""
        return self.typed and self.column(name).dtype != np.float64

    def truths(self, name: str) -> list[bool] | None:
        """Return the observed cells of a column of truth values; None for other columns."""
        observed = [cell for cell in self.column(name) if cell is not None]
        return observed if observed and all(isinstance(cell, bool) for cell in observed) else None

    def numbers(self, name: str) -> np.ndarray:
        """Return the cells of a column as float64, NaN where they are missing or no number."""
        cells = self.column(name)
        if cells.dtype == np.float64:
            return cells
        return np.array([_number(cell, self.decimal) for cell in cells], dtype=np.float64)

    def texts(self, name: str) -> list[str]:
        """Return the cells of a column as texts, empty for missing.

        Texts of files have no surrounding spaces.
        """
        if self.typed:
            return self.written(name)
        return [cell.strip() for cell in self.written(name)]

    def written(self, name: str) -> list[str]:
        """Return the cells of a column as a .csv holds them: as they were read, numbers in full."""
        cells = self.column(name)
        if cells.dtype == np.float64:
            return ["" if np.isnan(cell) else _number_text(cell) for cell in cells]
        return ["" if cell is None else str(cell) for cell in cells]


def is_missing(cell: object) -> bool:
    """Return whether a cell is None or one of the texts :data:`MISSING`."""
    return cell is None or str(cell).strip().lower() in MISSING


def _number(cell: object, decimal: str) -> float:
    """Return a cell as a finite number, or NaN."""
    if cell is None:
        return np.nan
    text = str(cell).strip()
    if "_" in text:  # which Python reads as a separator of thousands
        return np.nan
    try:
        value = float(text if decimal == "." else text.replace(decimal, "."))
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def _number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number, whole ones without a point."""
    if not np.isfinite(value):
        return repr(float(value))
    return str(int(value)) if value == int(value) else repr(float(value))
