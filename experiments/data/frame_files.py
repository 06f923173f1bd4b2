"""Data frames as files that keep names, types and missing cells of their columns exactly.

A .parquet file is read by pandas and pyarrow. The data frame of a run that was trained on one in
memory is JSON: ``{"format": "univae data frame", "version": 1, "columns": [...]}``. A column is
``{"name": ..., "numbers": ..., "categorical": ..., "cells": [...]}``: numbers in full precision,
texts, truth values, and null for a missing cell. It needs neither.
"""

import json
import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from density.tables.frames import from_frame
from density.tables.raw import RawTable
from univae.atomic_files import write_text_atomic
from univae.checkpoint import read_json
from univae.data_frames import is_frame
from univae.errors import InputError
from univae.rules import reading

__all__ = ["FRAME", "is_frame_file", "read_frame", "read_parquet", "write_frame"]

Frame: TypeAlias = Any  # of pandas, which is optional

FRAME = ".frame.json"  # end of the file's name
FORMAT = {"format": "univae data frame", "version": 1}
SOURCE = "the data frame"  # in messages and notes


def is_frame_file(path: Path) -> bool:
    """Return whether a file's name ends as those of :func:`write_frame` do."""
    return path.name.lower().endswith(FRAME)


def write_frame(frame: Frame, path: Path) -> None:
    """Write a data frame of pandas, without its index.

    Raises:
        InputError: the object is of another library, or two columns have the same name.
    """
    if not is_frame(frame):
        raise InputError(
            f"train: a data frame must be one of pandas; got {type(frame).__module__}."
            f"{type(frame).__name__}; convert it"
        )
    table = from_frame(frame, SOURCE)
    columns = []
    for name, cells in zip(table.names, table.cells, strict=True):
        is_numeric = cells.dtype == np.float64
        columns.append(
            {
                "name": name,
                "numbers": is_numeric,
                "categorical": name in table.categorical,
                "cells": _stored(cells, numbers=is_numeric),
            }
        )
    write_text_atomic(path, json.dumps({**FORMAT, "columns": columns}) + "\n")


def read_frame(path: Path) -> RawTable:
    """Return the cells of a file of :func:`write_frame`.

    Raises:
        InputError: the file is damaged, or of another format or version.
    """
    stored = read_json(path)
    with reading(path):
        if {name: stored[name] for name in FORMAT} != FORMAT:
            raise InputError(f"{path}: is no data frame of this version; give a .csv or .parquet")
        columns = stored["columns"]
        return RawTable(
            SOURCE,
            tuple(column["name"] for column in columns),
            tuple(_cells(column["cells"], numbers=column["numbers"]) for column in columns),
            typed=True,
            categorical=tuple(column["name"] for column in columns if column["categorical"]),
        )


def read_parquet(path: Path) -> RawTable:
    """Return the cells of a .parquet file.

    Raises:
        InputError: pandas or pyarrow is not installed.
    """
    try:
        import pandas
        import pyarrow  # noqa: F401  which pandas imports by name
    except ImportError as error:
        raise InputError(
            f"{path}: .parquet needs pandas and pyarrow: pip install 'univae[tables]'"
        ) from error
    # nullable types: whole numbers beside missing cells would become floats
    frame = pandas.read_parquet(path, engine="pyarrow", dtype_backend="numpy_nullable")
    return from_frame(frame, str(path))


def _stored(cells: np.ndarray, *, numbers: bool) -> list[Any]:
    """Return a column as values of JSON, None for missing cells."""
    if not numbers:
        return cells.tolist()
    return [None if math.isnan(cell) else cell for cell in cells.tolist()]


def _cells(stored: list[Any], *, numbers: bool) -> np.ndarray:
    """Return a column: float64 with NaN for missing cells, or objects."""
    if numbers:
        return np.array([np.nan if cell is None else cell for cell in stored], dtype=np.float64)
    cells = np.empty(len(stored), dtype=object)
    cells[:] = stored
    return cells
