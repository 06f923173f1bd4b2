"""Data frames of pandas, which is optional: known without importing it, and made of columns."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from univae.errors import InputError

if TYPE_CHECKING:
    import pandas

__all__ = ["as_frame", "is_frame", "is_named", "to_frame"]


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


def to_frame(columns: Mapping[str, np.ndarray], index: Any = None) -> "pandas.DataFrame":  # noqa: ANN401
    """Return columns as a data frame.

    Columns of objects that are all truth values or all numbers get their dtype.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError("a data frame needs pandas: pip install 'univae[tables]'") from error
    return pandas.DataFrame(dict(columns), index=index).infer_objects()
