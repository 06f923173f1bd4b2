r"""Kinds of columns: how cells become numbers and numbers become cells again.

A row of :data:`COLUMN_KINDS` encodes a column as float64 with NaN for missing cells: numbers and
counts as they are, categories as 0, 1, ... in the order of the schema. The distribution of a kind
is the row of the same name in :data:`density.likelihoods.column_laws.COLUMN_LAWS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

import numpy as np

from density.tables.raw import RawTable, is_missing
from univae.errors import InputError, brief_list

__all__ = ["COLUMN_KINDS", "Category", "Kind"]

Category: TypeAlias = str | bool | int | float

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

    def outside(self, values: np.ndarray, categories: tuple[Category, ...]) -> np.ndarray:
        """Return which encoded values (N,) no cell of this kind has; NaN is a missing cell."""
        return np.asarray(np.isinf(values))

    def rule(self, categories: tuple[Category, ...]) -> str:
        """Return what encoded values must be, in a few words."""
        return "finite, or NaN where they are missing"


class Numeric(Kind):
    """Real numbers."""

    summary = "real numbers"

    def encode(self, table: RawTable, name: str, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the numbers."""
        values = table.numbers(name)
        wrong = table.observed(name) & ~np.isfinite(values)
        if table.holds_texts(name):
            texts = table.texts(name)
            wrong &= np.array([not is_missing(text, table.missing) for text in texts], dtype=bool)
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

    def outside(self, values: np.ndarray, categories: tuple[Category, ...]) -> np.ndarray:
        """Return which values are no whole numbers from 0."""
        is_count = np.isfinite(values) & (values >= 0) & _is_whole(values)
        return np.asarray(~np.isnan(values) & ~is_count)

    def rule(self, categories: tuple[Category, ...]) -> str:
        """Return what encoded values must be, in a few words."""
        return "counts, whole numbers from 0"


class Categorical(Kind):
    """Finitely many values, texts or numbers, without an order."""

    summary = "one of finitely many values"

    def categories(self, table: RawTable, name: str) -> tuple[Category, ...]:
        """Return the different values, sorted: truth values, numbers where all are, or texts.

        Texts of a typed table stay texts where they read as numbers.
        """
        truths = table.truths(name)
        if truths is not None:
            return tuple(sorted(set(truths)))
        observed = table.observed(name)
        numbers = table.numbers(name)[observed]
        if np.isfinite(numbers).all() and not table.holds_texts(name):
            return tuple(_plain(value) for value in np.unique(numbers))
        texts = table.texts(name)
        return tuple(sorted({texts[row] for row in np.flatnonzero(observed).tolist()}))

    def encode(self, table: RawTable, name: str, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the position of each value in the categories.

        A text like "none" is missing, unless it is a category.
        """
        code = _codes(categories)
        texts = table.texts(name)
        numbers = np.full(len(texts), np.nan)
        if not any(isinstance(category, str) for category in categories):
            numbers = table.numbers(name)
        values = np.full(len(texts), np.nan)
        for row, (text, number) in enumerate(zip(texts, numbers.tolist(), strict=True)):
            cell = text if np.isnan(number) else number
            position = code.get(cell, code.get(text.strip()))
            if position is not None:
                values[row] = position
            elif not is_missing(text, table.missing):
                raise InputError(_unknown(table, row, name, categories))
        return values

    def decode(self, values: np.ndarray, categories: tuple[Category, ...]) -> np.ndarray:
        """Return the categories, as objects; None where a value is missing."""
        cells = np.full(len(values), None, dtype=object)
        for row in np.flatnonzero(~np.isnan(values)):
            cells[row] = categories[int(values[row])]
        return cells

    def outside(self, values: np.ndarray, categories: tuple[Category, ...]) -> np.ndarray:
        """Return which values are no position of a category."""
        is_code = (values >= 0) & (values < len(categories)) & _is_whole(values)
        return np.asarray(~np.isnan(values) & ~is_code)

    def rule(self, categories: tuple[Category, ...]) -> str:
        """Return what encoded values must be, in a few words."""
        return f"positions of its categories, whole numbers 0..{len(categories) - 1}"


COLUMN_KINDS: Mapping[str, Kind] = {
    "numeric": Numeric(),
    "count": Count(),
    "categorical": Categorical(),
}


def _codes(categories: tuple[Category, ...]) -> dict[Category, float]:
    """Return the position of each category; truth values also as texts in any usual case."""
    code: dict[Category, float] = {}
    for position, category in enumerate(categories):
        code[category] = float(position)
        if isinstance(category, bool):
            for text in (str(category), str(category).lower(), str(category).upper()):
                code[text] = float(position)
    return code


def _is_whole(values: np.ndarray) -> np.ndarray:
    return np.asarray(values == np.round(values))


def _plain(value: float) -> int | float:
    return int(value) if value == round(value) else float(value)


def _unknown(table: RawTable, row: int, name: str, categories: tuple[Category, ...]) -> str:
    listed = brief_list(categories, LISTED)
    return (
        f"{table.place(row, name)}: {table.texts(name)[row]!r} is not one of the "
        f"{len(categories)} values of the training set ({listed}); correct the cell, or empty it"
    )
