"""Decimal marks of the columns of a table of texts: a point or a comma, decided column by column.

A column has decimal commas where more of its cells are numbers with a comma than with a point. A
comma before groups of three digits, as in 3,007, may also separate thousands. It is a decimal mark
if another column has decimal commas that can be nothing else (2,5) and none has decimal points;
otherwise the column is unclear. The same holds for points, which are decimal marks unless another
column has decimal commas and none has decimal points.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from density.tables.raw import is_missing

__all__ = ["DecimalMarks", "decimal_marks", "is_number"]

WHOLE = re.compile(r"[+-]?\d+")
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
POINT = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")
GROUPS_BY_COMMA = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
GROUPS_BY_POINT = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")


class DecimalMarks(NamedTuple):
    """Which columns, by index, have numbers with a decimal comma, and which are unclear."""

    mark: str  # of the file: a comma where some column has decimal commas and none has points
    commas: frozenset[int]
    unclear: frozenset[int]  # numbers whose commas or points may separate thousands


class _Marks(NamedTuple):
    """The marks of a column of numbers."""

    has_commas: bool  # rather than points
    is_clear: bool  # no separators of thousands


def decimal_marks(columns: Sequence[np.ndarray]) -> DecimalMarks:
    """Return the decimal marks of columns of texts, each (N,)."""
    marks = {}
    for i, column in enumerate(columns):
        column_marks = _marks([cell.strip() for cell in column if not is_missing(cell)])
        if column_marks is not None:
            marks[i] = column_marks

    file_has_commas = any(mark.has_commas for mark in marks.values() if mark.is_clear)
    file_has_points = any(not mark.has_commas for mark in marks.values() if mark.is_clear)
    only_commas = file_has_commas and not file_has_points
    commas = set()
    unclear = set()
    for i, mark in marks.items():
        if mark.is_clear or mark.has_commas == only_commas:
            commas |= {i} if mark.has_commas else set()
        else:
            unclear.add(i)
    return DecimalMarks("," if only_commas else ".", frozenset(commas), frozenset(unclear))


def _marks(cells: Sequence[str]) -> _Marks | None:
    """Return the marks of a column's observed cells; None unless most are numbers with a mark."""
    by_comma = [cell for cell in cells if COMMA.fullmatch(cell) or GROUPS_BY_COMMA.fullmatch(cell)]
    by_point = [cell for cell in cells if POINT.fullmatch(cell) or GROUPS_BY_POINT.fullmatch(cell)]
    whole = sum(WHOLE.fullmatch(cell) is not None for cell in cells)
    is_numeric = len(by_comma) + len(by_point) + whole > len(cells) / 2
    if not is_numeric or not (by_comma or by_point):
        return None
    has_commas = len(by_comma) > len(by_point)
    marked, groups = (by_comma, GROUPS_BY_COMMA) if has_commas else (by_point, GROUPS_BY_POINT)
    return _Marks(has_commas, not all(groups.fullmatch(cell) for cell in marked))


def is_number(cell: str) -> bool:
    """Return whether a cell is a number with a decimal point or comma, or in groups of digits."""
    text = cell.strip()
    if GROUPS_BY_COMMA.fullmatch(text) or GROUPS_BY_POINT.fullmatch(text):
        return True
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
