"""Errors that name a number of a model that is not finite: what it is of, and in which row."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from density.coding.ans import frequencies
from univae.errors import InputError

__all__ = ["NotFinite", "first_row", "naming_rows", "row_frequencies"]


class NotFinite(InputError):
    """Report that ``problem`` holds for a row, counted from 0, or for no row of the data."""

    def __init__(self, problem: str, row: int | None = None) -> None:
        self.problem = problem
        self.row = row
        place = "" if row is None else f" for row {row}"
        super().__init__(f"compress: {problem}{place}; train or restore the model again")


@contextmanager
def naming_rows(first: int | None) -> Iterator[None]:
    """Count the rows of errors from ``first``, where those of a tile begin; None: no data."""
    try:
        yield
    except NotFinite as error:
        row = None
        if first is not None and error.row is not None:
            row = first + error.row
        raise NotFinite(error.problem, row) from error


def first_row(is_finite: np.ndarray) -> int:
    """Return the first index of the first axis with a number that is not finite."""
    return int((~is_finite).reshape(len(is_finite), -1).any(1).argmax())


def row_frequencies(p: np.ndarray, rows: np.ndarray, what: str) -> np.ndarray:
    """Return the frequencies of probabilities (n, levels), those of ``rows`` (n,) of a tile.

    Raises:
        NotFinite: a probability of ``what`` is not finite.
    """
    is_finite = np.isfinite(p)
    if not is_finite.all():
        raise NotFinite(f"{what} has no finite probabilities", int(rows[first_row(is_finite)]))
    return frequencies(p)
