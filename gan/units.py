"""The units of the data of a GAN, and those of its networks.

The networks take images in [-1, 1] and table columns of mean 0 and deviation 1.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from univae.data_record import stored_units
from univae.rules import reading
from univae.run_folder import RunFolder

__all__ = ["DataUnits"]


@dataclass(frozen=True)
class DataUnits:
    """What converts rows of the networks to the units of the data.

    ``levels`` are those of images of whole numbers, None for real numbers; ``spread`` multiplies
    and ``centre`` is added to the others, one number or one per column; ``dtype`` is that of the
    data; ``names`` are those of the columns of a table, empty where they have none.
    """

    levels: int | None
    centre: np.ndarray | None
    spread: np.ndarray | None
    dtype: np.dtype
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: RunFolder, shape: tuple[int, ...]) -> "DataUnits | None":
        """Return the units of the data that a run was trained on; None in version 0.1.0.

        Raises:
            InputError: ``data.json`` lacks a unit, or one does not fit rows of ``shape``.
        """
        stored = stored_units(folder, shape)
        if stored is None:
            return None
        with reading(folder.path / "data.json"):
            names = tuple(str(column["name"]) for column in stored.columns)
        return cls(stored.levels, stored.centre, stored.spread, stored.dtype, names)

    def from_networks(self, x: Tensor) -> np.ndarray:
        """Return generated rows in the units of the data.

        Levels are uint8 numbers 0..levels-1; other rows have the dtype of the data.
        """
        numbers = x.double().cpu().numpy()
        if self.centre is not None and self.spread is not None:
            numbers = numbers * self.spread + self.centre
        elif self.levels is not None:
            numbers = (numbers + 1) / 2 * (self.levels - 1)
        if self.levels is not None:
            return np.clip(np.round(numbers), 0, self.levels - 1).astype(np.uint8)
        return numbers.astype(self.dtype)
