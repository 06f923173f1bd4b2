"""What a command's result holds, whatever the format of its file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

__all__ = ["Column", "Contents", "plain"]

Column: TypeAlias = Sequence[object] | np.ndarray


@dataclass(frozen=True)
class Contents:
    """A result, or some rows of one: the parts that it has."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)  # the first is that of a .npy
    columns: Mapping[str, Column] = field(default_factory=dict)  # of one length, by name
    texts: Sequence[str] = ()
    picture: bytes = b""  # PNG
    animation: bytes = b""  # GIF
    separator: str = ","  # of the cells of a .csv

    @classmethod
    def joined(cls, parts: "Sequence[Contents]") -> "Contents":
        """Return the rows of several contents of the same names, one after the other."""
        first = parts[0]
        if len(parts) == 1:
            return first
        arrays = {
            name: np.concatenate([part.arrays[name] for part in parts]) for name in first.arrays
        }
        columns = {name: _column([part.columns[name] for part in parts]) for name in first.columns}
        texts = [text for part in parts for text in part.texts]
        return cls(arrays, columns, texts, first.picture, first.animation, first.separator)


def plain(column: Column) -> Sequence[object]:
    """Return a column as a list of plain values, floats of float32 in their shortest form."""
    if isinstance(column, np.ndarray) and column.dtype == np.float32:
        return [float(str(value)) for value in column]
    return column.tolist() if isinstance(column, np.ndarray) else column


def _column(parts: Sequence[Column]) -> Column:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)
    return [cell for part in parts for cell in part]
