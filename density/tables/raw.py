"""A table as it was read: names, cells of text or numbers, and the line of every row."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from univae.errors import InputError, brief_list

__all__ = ["MISSING", "RawTable", "is_missing"]

# Texts that stand for a missing cell where no others are named, in lower case.
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-", "."))

MOST_COLUMNS = 16_384

WHOLE = re.compile(r"[+-]?\d{1,30}")
PADDED = re.compile(r"[+-]?0\d+")  # whole numbers with zeros in front, such as codes of places
BEYOND_64_BITS = 2**63
LARGE = re.compile(r"[+-]?\d{16,300}")  # whole numbers that may be beyond 2**53
SEPARATED = re.compile(r"[+-]?\d+([.,]\d{3})+")


@dataclass(frozen=True)
class RawTable:
    """The cells of a table, column by column, before they are interpreted.

    Args:
        source: the file, for messages.
        names: the names of the columns.
        cells: a column each, (N,): float64 with NaN for missing cells; or objects, which are texts,
            truth values, whole numbers that float64 would round, or None for missing cells.
        lines: the line of the file in which each row ends, (N,); None where there are no lines.
        decimal: the decimal mark of the file, which that of a column may differ from.
        decimal_commas: the columns of texts whose numbers have a decimal comma, not a point.
        unclear: the columns of texts in whose numbers commas or points may separate thousands.
        separator: what separates the cells of the file.
        notes: what the reader assumed, a line each.
        missing: the texts that stand for a missing cell, besides empty ones; None:
            :data:`MISSING`, in upper or lower case.
        typed: whether cells have the types of their user, as in a data frame: a text stays a text
            where it reads as a number or as a mark of a missing cell. In files they are guessed.
        categorical: columns that the user declared to be categories.
    """

    source: str
    names: tuple[str, ...]
    cells: tuple[np.ndarray, ...]
    lines: np.ndarray | None = None
    decimal: str = "."
    decimal_commas: frozenset[str] = frozenset()
    unclear: frozenset[str] = frozenset()
    separator: str = ","
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None
    typed: bool = False
    categorical: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) > MOST_COLUMNS:
            raise InputError(
                f"{self.source}: a table with names may have at most {MOST_COLUMNS:,} columns; it "
                f"has {len(self.names):,}; drop some, or save the numbers as .npy"
            )
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
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
            raise InputError(
                f"{self.source}: there is no column {name!r}; it has {brief_list(self.names)}"
            )
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
            marks = [_number(mark, ".") for mark in self.missing or ()]
            return np.asarray(~np.isnan(cells) & ~np.isin(cells, marks))
        if self.typed and self.missing is None:
            return np.array([cell is not None for cell in cells], dtype=bool)
        return np.array([not is_missing(cell, self.missing) for cell in cells], dtype=bool)

    def holds_texts(self, name: str) -> bool:
        """Return whether a column holds texts or truth values that are not to read as numbers."""
        cells = self.column(name)
        if not self.typed or cells.dtype == np.float64:
            return False
        return not any(isinstance(cell, int) and not isinstance(cell, bool) for cell in cells)

    def truths(self, name: str) -> list[bool] | None:
        """Return the observed cells of a column of truth values; None for other columns."""
        observed = [cell for cell in self.column(name) if cell is not None]
        return observed if observed and all(isinstance(cell, bool) for cell in observed) else None

    def numbers(self, name: str) -> np.ndarray:
        """Return the cells of a column as float64, NaN where they are missing or no number.

        Raises:
            InputError: commas or points in the numbers may be decimal marks or separate thousands.
        """
        cells = self.column(name)
        observed = self.observed(name)
        if cells.dtype == np.float64:
            return np.where(observed, cells, np.nan)
        if name in self.unclear:
            raise InputError(self._unclear(name))
        decimal = "," if name in self.decimal_commas else "."
        numbers = np.array([_number(cell, decimal) for cell in cells], dtype=np.float64)
        return np.where(observed, numbers, np.nan)

    def has_rounded(self, name: str) -> bool:
        """Return whether a column holds whole numbers that :meth:`numbers` rounds."""
        cells = self.column(name)
        if cells.dtype == np.float64:
            return False
        large = [int(text) for text in self.texts(name) if LARGE.fullmatch(text)]
        return any(number != int(float(number)) for number in large)

    def marks(self, name: str) -> Counter[str]:
        """Return the texts of a column that are read as missing cells, and how often each is."""
        if self.holds_texts(name) and self.missing is None:
            return Counter()
        texts = [text for text in self.texts(name) if text]
        return Counter(text for text in texts if is_missing(text, self.missing))

    def values(self, name: str) -> list[object]:
        """Return the cells of a column as numbers where all are numbers, otherwise as texts.

        Whole numbers are exact integers. Missing numbers and empty cells are None. Numbers that can
        be read in two ways, have zeros in front, or are beyond 64 bits stay texts.
        """
        cells = self.column(name)
        observed = self.observed(name)
        if cells.dtype == np.float64:
            numbers = self.numbers(name)
            is_whole = bool((numbers[observed] == np.round(numbers[observed])).all())
            return [None if np.isnan(x) else int(x) if is_whole else float(x) for x in numbers]
        if self.typed:
            return list(cells)
        texts = self.texts(name)
        of_numbers = [texts[row] for row in np.flatnonzero(observed).tolist()]
        if all(_is_exact(text) for text in of_numbers):
            return [int(x) if seen else None for x, seen in zip(texts, observed, strict=True)]
        is_code = name in self.unclear or any(PADDED.fullmatch(text) for text in of_numbers)
        if not is_code and np.isfinite(self.numbers(name)[observed]).all():
            return [None if np.isnan(x) else float(x) for x in self.numbers(name)]
        return [None if cell == "" else cell for cell in cells]

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

    def _unclear(self, name: str) -> str:
        """Return the message for numbers that can be read in two ways."""
        texts = self.texts(name)
        row = next(i for i, text in enumerate(texts) if SEPARATED.fullmatch(text))
        text = texts[row]
        whole = re.sub("[.,]", "", text)
        return (
            f"{self.place(row, name)}: {text!r} may be {whole} or a number with decimals; write "
            "numbers without separators of thousands, and with a decimal point"
        )


def is_missing(cell: object, marks: Collection[str] | None = None) -> bool:
    """Return whether a cell is None, empty or one of ``marks``, by default :data:`MISSING`."""
    text = "" if cell is None else str(cell).strip()
    return text.lower() in MISSING if marks is None else not text or text in marks


def _is_exact(text: str) -> bool:
    """Return whether a text is a whole number of 64 bits without zeros in front."""
    return bool(
        WHOLE.fullmatch(text) and not PADDED.fullmatch(text) and abs(int(text)) < BEYOND_64_BITS
    )


def _number(cell: object, decimal: str) -> float:
    """Return a cell as a finite number, or NaN."""
    if cell is None:
        return np.nan
    text = str(cell).strip()
    # Python takes an underscore for a separator of thousands
    if "_" in text or (decimal == "," and "." in text):
        return np.nan
    try:
        value = float(text.replace(decimal, "."))
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def _number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number, whole ones without a point."""
    if not np.isfinite(value):
        return repr(float(value))
    return str(int(value)) if value == int(value) else repr(float(value))
