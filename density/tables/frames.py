"""Data frames of pandas as raw tables, and data frames with their missing cells filled."""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from density.tables.raw import RawTable
from univae.errors import InputError

if TYPE_CHECKING:
    import pandas

__all__ = ["filled_frame", "from_frame"]

SHOWN = 60  # characters of a wrong value in a message
NUMBERS = (int, float, Decimal, np.integer, np.floating)  # cells of an object column
EXACT_INTEGERS = 2**53  # float64 represents every whole number below


def from_frame(frame: "pandas.DataFrame", source: str = "the data frame") -> RawTable:
    """Return a data frame as a raw table, whose cells keep their types.

    Numbers stay numbers, whole ones beyond 2^53 as Python's integers, truth values truth values and
    texts texts; times and other objects become texts. Missing values of any kind are missing cells,
    and so are blank texts; a text like "none" is a text. Columns of dtype category are categorical.
    The index is left out.
    """
    import pandas

    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    names = tuple(map(str, frame.columns))
    categorical = tuple(
        name
        for name, column in zip(names, columns, strict=True)
        if isinstance(column.dtype, pandas.CategoricalDtype)
    )
    cells = tuple(_cells(column) for column in columns)
    return RawTable(source, names, cells, typed=True, categorical=categorical)


def filled_frame(
    frame: "pandas.DataFrame", cells: Mapping[str, np.ndarray], missing: Mapping[str, np.ndarray]
) -> "pandas.DataFrame":
    """Return a copy of a data frame with some of its cells filled.

    Args:
        frame: the data frame.
        cells: a value (N,) for each row, by column.
        missing: which rows (N,) of a column take the value.
    """
    filled = frame.copy()
    for label in frame.columns:
        is_lost = missing.get(str(label))
        if is_lost is not None and is_lost.any():
            filled[label] = _filled(frame[label], cells[str(label)], is_lost)
    return filled


def _filled(column: Any, values: np.ndarray, missing: np.ndarray) -> Any:  # noqa: ANN401  a series of pandas
    """Return a series with ``values`` where a cell is missing, of the same dtype where they fit."""
    import pandas

    if isinstance(column.dtype, pandas.CategoricalDtype):
        known = column.cat.categories
        new = [value for value in dict.fromkeys(values[missing].tolist()) if value not in known]
        column = column.cat.add_categories(new)
        column[missing] = values[missing]
        return column
    kept = column.astype(object)
    return kept.where(~missing, values).infer_objects()


def _cells(series: Any) -> np.ndarray:  # noqa: ANN401  a series of pandas, which has no stubs here
    """Return the cells of a column: float64 of numbers, objects of anything else."""
    import pandas

    types = pandas.api.types
    if isinstance(series.dtype, pandas.CategoricalDtype):
        series = series.astype(object)
    is_real = types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series.dtype)
    if is_real and not types.is_bool_dtype(series.dtype):
        return _numbers(series, whole=types.is_integer_dtype(series.dtype))
    missing = series.isna().to_numpy()
    cells = np.empty(len(series), dtype=object)
    cells[~missing] = [cell for cell, lost in zip(series, missing, strict=True) if not lost]
    observed = cells[~missing]
    if len(observed) and all(map(_is_number, observed)):
        cells[missing] = np.nan
        return cells.astype(np.float64)
    are_truths = all(isinstance(cell, bool | np.bool_) for cell in observed)
    for row in np.flatnonzero(~missing).tolist():
        cells[row] = bool(cells[row]) if are_truths else _text(cells[row])
    return cells


def _numbers(series: Any, *, whole: bool) -> np.ndarray:  # noqa: ANN401  a series of pandas
    """Return a column of numbers as float64, or as objects where that would round whole ones."""
    numbers = np.array(series.to_numpy(dtype=np.float64, na_value=np.nan))
    if not whole or not (np.abs(numbers) >= EXACT_INTEGERS).any():
        return numbers
    cells = np.empty(len(series), dtype=object)
    missing = series.isna().to_numpy()
    cells[:] = [None if lost else int(x) for x, lost in zip(series, missing, strict=True)]
    return cells


def _text(cell: object) -> str | None:
    """Return a cell as a text, None where it is blank.

    Raises:
        InputError: it holds half of a surrogate pair, which no file of the run could hold.
    """
    text = str(cell)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the data frame: {text[:SHOWN]!r} holds half of a surrogate pair, which UTF-8 cannot "
            "encode; remove it"
        ) from error
    return text if text.strip() else None


def _is_number(cell: object) -> bool:
    """Return whether a cell is a real number, and no truth value."""
    return isinstance(cell, NUMBERS) and not isinstance(cell, bool)
