"""Infer the schema of a table from its cells.

The rules, in this order, for a column that no option names:

1. A column without an observed cell, or with one value only, is left out: it has no distribution.
2. Whole numbers that count the rows, in a column called id, index or row, are left out.
3. More numbers than texts: every cell must be a number. Whole numbers of at most 5 different values
   (each in two rows or more, on average) are categorical; other whole numbers whose smallest is 0
   to 9 are counts; all others are numeric.
4. Dates are left out.
5. Texts of at most 100 different values, in two rows each or more on average, are categorical;
   other texts (names, ids, sentences) are left out.

A column of a data frame is what its dtype says: texts stay texts (rules 4 and 5), and truth values
and columns of dtype category are categorical.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from density.tables.columns import Column, Columns
from density.tables.kinds import COLUMN_KINDS
from density.tables.raw import RawTable
from univae.errors import InputError, brief_list

__all__ = ["Choice", "infer"]

FEW_NUMBERS = 5  # different whole numbers of a categorical column, at most
SMALLEST_OF_COUNTS = 9
MOST_CATEGORIES = 100
ROWS_OF_A_CATEGORY = 2  # on average, at least
ROW_NAMES = frozenset(("id", "index", "row", "row names", "rowid", "unnamed: 0"))
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}")


@dataclass(frozen=True)
class Choice:
    """The columns and kinds that a user names; all others are inferred.

    Args:
        columns: the columns to use, in this order; none: all.
        drop: columns to leave out.
        categorical: columns of categories.
        count: columns of counts.
        numeric: columns of real numbers.
        missing: the texts that stand for a missing cell, besides empty ones; None:
            :data:`density.tables.raw.MISSING`.
    """

    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    count: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    missing: tuple[str, ...] | None = None

    def kind_of(self, name: str) -> str | None:
        """Return the kind that an option names for a column, or None."""
        return next((kind for kind in COLUMN_KINDS if name in getattr(self, kind)), None)

    def check(self, table: RawTable) -> None:
        """Raise :class:`InputError` for a name that the table lacks, or that two options have."""
        for option in ("columns", "drop", *COLUMN_KINDS):
            for name in getattr(self, option):
                if name not in table.names:
                    raise InputError(
                        f"--{option} {shlex.quote(name)}: {table.source} has no such column; it "
                        f"has {brief_list(table.names)}"
                    )
        named = [name for option in ("drop", *COLUMN_KINDS) for name in getattr(self, option)]
        for name in named:
            if named.count(name) > 1:
                raise InputError(
                    f"column {name!r} is named by two of --drop, --{', --'.join(COLUMN_KINDS)}; "
                    "name it once"
                )


def infer(table: RawTable, choice: Choice | None = None) -> tuple[Columns, tuple[str, ...]]:
    """Return the schema of a table, and a note for each column that is left out and on the kinds.

    Raises:
        InputError: no column is left, a cell does not fit its column, or an option names a column
            that does not exist.
    """
    choice = choice or Choice()
    choice.check(table)
    table = replace(table, missing=choice.missing)
    columns: list[Column] = []
    left_out: list[str] = []
    for name in choice.columns or table.names:
        if name in choice.drop:
            continue
        kind = choice.kind_of(name)
        if kind is None:
            kind, reason = _inferred(table, name)
            if reason:
                left_out.append(f"{table.source}: column {name!r} is left out: {reason}")
                continue
        columns.append(_column(table, name, kind))
    if not columns:
        reasons = f" ({left_out[0].split(': ', 1)[1]})" if left_out else ""
        raise InputError(f"{table.source}: no column is left to train on{reasons}")
    return Columns(columns, choice.missing), (*left_out, f"{table.source}: {_summary(columns)}")


def _column(table: RawTable, name: str, kind: str) -> Column:
    if table.column(name).dtype == np.float64:
        COLUMN_KINDS["numeric"].encode(table, name, ())  # raises for infinity
    rules = COLUMN_KINDS[kind]
    categories = rules.categories(table, name)
    try:
        values = rules.encode(table, name, categories)
    except InputError as error:
        raise InputError(f"{error}, or give {_alternatives(table, name, kind)}") from error
    observed = values[~np.isnan(values)]
    if len(np.unique(observed)) < 2:  # noqa: PLR2004  one value has no distribution
        raise InputError(
            f"{table.source}: column {name!r} must have two different values or more; "
            f"give --drop {shlex.quote(name)}"
        )
    return Column(name, kind, categories)


def _alternatives(table: RawTable, name: str, kind: str) -> str:
    """Return the options that train on a table without a column, or with another kind of it."""
    options = []
    for other, rules in COLUMN_KINDS.items():
        try:
            rules.encode(table, name, rules.categories(table, name))
        except InputError:
            continue
        if other != kind:
            options.append(f"--{other} {shlex.quote(name)}")
    return " or ".join((*options, f"--drop {shlex.quote(name)}"))


def _inferred(table: RawTable, name: str) -> tuple[str, str]:
    """Return the kind of a column, or the reason to leave it out."""
    observed = table.observed(name)
    texts = table.texts(name)
    cells = [texts[row] for row in np.flatnonzero(observed).tolist()]
    if not cells:
        return "", "all its cells are missing"
    if len(set(cells)) == 1:
        return "", f"all its cells are {cells[0]!r}"
    if name in table.categorical or table.truths(name) is not None:
        return "categorical", ""
    if table.holds_texts(name):
        kind, reason = _of_texts(name, cells)
        if reason and np.isfinite(table.numbers(name)[observed]).mean() > 1 / 2:
            option = f"--numeric {shlex.quote(name)}"
            reason = f"its numbers are texts; convert it to numbers, or give {option}"
        return kind, reason
    numbers = table.numbers(name)[observed]
    is_number = np.isfinite(numbers)
    if is_number.mean() > 1 / 2 or table.column(name).dtype == np.float64:
        return _of_numbers(name, numbers[is_number], is_complete=bool(is_number.all()))
    return _of_texts(name, cells)


def _of_numbers(name: str, numbers: np.ndarray, *, is_complete: bool) -> tuple[str, str]:
    """Return the kind of a column of numbers; ``is_complete``: no other cells are among them."""
    if not len(numbers):
        return "numeric", ""
    values = np.unique(numbers)
    if name.strip().lower() in ROW_NAMES and len(numbers) > 1 and (np.diff(numbers) == 1).all():
        return "", f"it counts the rows; give --numeric {shlex.quote(name)} to keep it"
    if (values != np.round(values)).any():
        return "numeric", ""
    are_few = len(values) <= FEW_NUMBERS and len(numbers) >= ROWS_OF_A_CATEGORY * len(values)
    if are_few and is_complete:
        return "categorical", ""
    if not is_complete:
        return "numeric", ""  # whose encoding names the first cell that is no number
    if 0 <= values[0] <= SMALLEST_OF_COUNTS:
        return "count", ""
    return "numeric", ""


def _of_texts(name: str, cells: Sequence[str]) -> tuple[str, str]:
    different = len(set(cells))
    if all(DATE.fullmatch(cell) for cell in cells):
        return "", "it holds dates; give numbers, such as a year, to keep it"
    if different <= MOST_CATEGORIES and len(cells) >= ROWS_OF_A_CATEGORY * different:
        return "categorical", ""
    return "", (
        f"{different} different texts in {len(cells)} rows are names, ids or sentences; "
        f"give --categorical {shlex.quote(name)} to keep it"
    )


def _summary(columns: Sequence[Column]) -> str:
    return f"{len(columns)} columns ({'; '.join(column.describe() for column in columns)})"
