"""The units of images or of a table, as the entry ``data`` of a run's ``data.json`` holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from univae.dtypes import is_number_dtype
from univae.errors import InputError
from univae.rules import Rule, at_least, check, reading
from univae.run_folder import RunFolder

__all__ = ["StoredUnits", "stored_units"]

MOST_LEVELS = 256  # of images of whole numbers, which are uint8


@dataclass(frozen=True)
class StoredUnits:
    r"""The units of rows (N, \*shape), checked against the shape of one row.

    ``levels`` are those of images of whole numbers, None for real numbers. ``centre`` and
    ``spread`` are one number or an array that has the last axes of ``shape``; ``columns`` is the
    schema of a table with named columns, empty where it has none.
    """

    shape: tuple[int, ...]
    levels: int | None
    centre: np.ndarray | None
    spread: np.ndarray | None
    dtype: np.dtype
    columns: Sequence[Mapping[str, object]]

    RULES: ClassVar[Mapping[str, Rule]] = {"levels": at_least(2, MOST_LEVELS)}

    def __post_init__(self) -> None:
        check(self)
        if not is_number_dtype(self.dtype):
            raise InputError(f"dtype must be one of numbers; got {self.dtype}")
        if self.columns and (len(self.columns),) != self.shape:
            raise InputError(
                f"columns must be {self.shape[-1]}, as the model has; got {len(self.columns)}"
            )
        for name in ("centre", "spread"):
            values = getattr(self, name)
            if values is None:
                continue
            fits = values.shape == self.shape[len(self.shape) - values.ndim :]
            if not (fits and np.isfinite(values).all()):
                raise InputError(
                    f"{name} must be finite numbers, one or one per column of {self.shape}; "
                    f"got an array of shape {values.shape}"
                )


def stored_units(folder: RunFolder, shape: tuple[int, ...]) -> StoredUnits | None:
    """Return the units of the data that a run was trained on; None in a run of version 0.1.0.

    Args:
        folder: the run folder.
        shape: that of one row of the model.

    Raises:
        InputError: ``data.json`` lacks a unit, or one does not fit the model.
    """
    record = folder.data_record()
    if not record:
        return None
    with reading(folder.path / "data.json"):
        data = record["data"]
        return StoredUnits(
            shape,
            data["levels"],
            _numbers(data["centre"]),
            _numbers(data.get("spread")),
            np.dtype(data["dtype"]),
            [dict(column) for column in data.get("columns") or ()],
        )


def _numbers(stored: object) -> np.ndarray | None:
    return None if stored is None else np.asarray(stored, np.float64)
