"""Data frames of pandas as raw tables, and decoded columns as data frames."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from density.tables.raw import RawTable
from univae.errors import InputError

if TYPE_CHECKING:
    import pandas

__all__ = ["as_frame", "filled_frame", "from_frame", "is_frame", "is_named", "to_frame"]

EXACT_INTEGERS = 2**53  # float64 represents every whole number below


def is_frame(data: object) -> bool:
    """Return whether an object is a data frame of pandas, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def is_named(data: object) -> bool:
    """Return whether an object is a data frame, or a Series, which is a row of one."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame | pandas.Series)


def as_frame(data: Any) -> Any:  # noqa: ANN401  of any type, and unchanged if not a Series
    """Return a Series, a row of a data frame, as a data frame of one row; other data unchanged."""
    return data.to_frame().T.infer_objects() if is_named(data) and not is_frame(data) else data


def from_frame(frame: "pandas.DataFrame", source: str = "the data frame") -> RawTable:
    """Return a data frame as a raw table.

    Columns of numbers stay numbers, whole ones beyond 2^53 as Python's integers; all others, truth
    values and times included, become texts.
    Missing values of any kind are missing cells. The index is left out.
    """
    cells = tuple(_cells(frame.iloc[:, i]) for i in range(frame.shape[1]))
    return RawTable(source, tuple(map(str, frame.columns)), cells)


def filled_frame(frame: "pandas.DataFrame", cells: Mapping[str, np.ndarray]) -> "pandas.DataFrame":
    """Return a copy of a data frame whose missing cells in some columns are those of ``cells``."""
    filled = frame.copy()
    for name, values in cells.items():
        missing = filled[name].isna()
        if missing.any():
            kept = filled[name].astype(object)
            filled[name] = kept.where(~missing, values).infer_objects()
    return filled


def to_frame(columns: Mapping[str, np.ndarray], index: Any = None) -> "pandas.DataFrame":  # noqa: ANN401
    """Return decoded columns as a data frame.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError("a data frame needs pandas: pip install 'univae[tables]'") from error
    return pandas.DataFrame(dict(columns), index=index)


def _cells(series: Any) -> np.ndarray:  # noqa: ANN401  a series of pandas, which has no stubs here
    import pandas

    is_number = pandas.api.types.is_numeric_dtype(series.dtype)
    is_truth = pandas.api.types.is_bool_dtype(series.dtype)
    if is_number and not is_truth and not pandas.api.types.is_complex_dtype(series.dtype):
        numbers = np.array(series.to_numpy(dtype=np.float64, na_value=np.nan))
        is_whole = pandas.api.types.is_integer_dtype(series.dtype)
        if not is_whole or not (np.abs(numbers) >= EXACT_INTEGERS).any():
            return numbers
        return _objects(series, int)
    return _objects(series, str)


def _objects(series: Any, convert: Callable[[Any], object]) -> np.ndarray:  # noqa: ANN401
    """Return the converted cells of a series as objects, None where they are missing."""
    missing = series.isna().to_numpy()
    cells = np.empty(len(series), dtype=object)
    cells[:] = [None if lost else convert(x) for x, lost in zip(series, missing, strict=True)]
    return cells
