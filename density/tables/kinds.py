r"""Kinds of columns: how cells become numbers and numbers become cells again.

A row of :data:`COLUMN_KINDS` encodes a column as float64 with NaN for missing cells: numbers and
counts as they are, categories as 0, 1, ... in the order of the schema. The distribution of a kind
is the row of the same name in :data:`density.likelihoods.column_laws.COLUMN_LAWS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

import numpy as np

from density.tables.raw import RawTable
from univae.errors import InputError, brief_list

__all__ = ["COLUMN_KINDS", "Category", "Kind"]

Category: TypeAlias = str | int | float

LISTED = 5  # categories that a message lists


class Kind(ABC):
    """A kind of column."""

    summary: ClassVar[str]

    def categories(self, table: RawTable, name: str) -> tuple[Category, ...]:
        """Return the different values of a column, in order; none for a kind without categories."""
        return ()

    @abstractmethod
    def encode(self, table: RawTable, name: str, categories: tuple[Category, ...]) -> np.ndarray:
        """Return a column as float64 (N,), NaN where a cell is missing.

        Raises:
            InputError: a cell is not of this kind; the message names its line and column.
        """

    def decode(self, values: np.ndarray, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the cells of encoded values (N,), NaN or None where they are missing."""
        return values


class Numeric(Kind):
    """Real numbers."""

    summary = "real numbers"

    def encode(self, table: RawTable, name: str, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the numbers."""
        values = table.numbers(name)
        wrong = table.observed(name) & ~np.isfinite(values)
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{table.place(row, name)}: {table.texts(name)[row]!r} is no finite number; "
                "correct the cell, or empty it"
            )
        return values


class Count(Numeric):
    """Whole numbers from 0 without an upper limit."""

    summary = "whole numbers from 0"

    def encode(self, table: RawTable, name: str, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the numbers."""
        values = super().encode(table, name, categories)
        with np.errstate(invalid="ignore"):
            wrong = (values < 0) | (values != np.round(values)) & ~np.isnan(values)
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{table.place(row, name)}: {values[row]:g} is no whole number from 0, as a "
                "count is; correct the cell, or empty it"
            )
        return values

    def decode(self, values: np.ndarray, categories: tuple[Category, ...]) -> np.ndarray:
        """Return whole numbers as integers; values as they are where one is missing or a mean."""
        is_whole = bool(np.isfinite(values).all() and (values == np.round(values)).all())
        return values.astype(np.int64) if is_whole else values


class Categorical(Kind):
    """Finitely many values, texts or numbers, without an order."""

    summary = "one of finitely many values"

    def categories(self, table: RawTable, name: str) -> tuple[Category, ...]:
        """Return the different values, sorted: numbers where all are numbers, otherwise texts."""
        observed = table.observed(name)
        numbers = table.numbers(name)[observed]
        if np.isfinite(numbers).all():
            return tuple(_plain(value) for value in np.unique(numbers))
        texts = table.texts(name)
        return tuple(sorted({texts[row] for row in np.flatnonzero(observed).tolist()}))

    def encode(self, table: RawTable, name: str, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the position of each value in the categories."""
        code = {category: float(i) for i, category in enumerate(categories)}
        cells: list[Category] = list(table.texts(name))
        if not any(isinstance(category, str) for category in categories):
            numbers = table.numbers(name)
            cells = [
                x if np.isnan(number) else float(number)
                for x, number in zip(cells, numbers, strict=True)
            ]
        observed = table.observed(name)
        values = np.full(len(cells), np.nan)
        for row in np.flatnonzero(observed).tolist():
            if cells[row] not in code:
                raise InputError(_unknown(table, row, name, categories))
            values[row] = code[cells[row]]
        return values

    def decode(self, values: np.ndarray, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the categories, as objects; None where a value is missing."""
        cells = np.full(len(values), None, dtype=object)
        for row in np.flatnonzero(~np.isnan(values)):
            cells[row] = categories[int(values[row])]
        return cells


COLUMN_KINDS: Mapping[str, Kind] = {
    "numeric": Numeric(),
    "count": Count(),
    "categorical": Categorical(),
}


def _plain(value: float) -> int | float:
    return int(value) if value == round(value) else float(value)


def _unknown(table: RawTable, row: int, name: str, categories: tuple[Category, ...]) -> str:
    listed = brief_list(categories, LISTED)
    return (
        f"{table.place(row, name)}: {table.texts(name)[row]!r} is not one of the "
        f"{len(categories)} values of the training set ({listed}); correct the cell, or empty it"
    )
