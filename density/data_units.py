r"""The units of the data of a run, and those of its model.

A model takes floats: the levels 0, 1, ... of images, real numbers less the mean of their column in
the training set, or zeros and ones where training made the pixels black or white. A table with
named columns has counts as they are, categories as 0, 1, ... in the order of its schema, and NaN
for missing cells.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from density.likelihoods.autoregressive import IMAGE_DIMS
from density.likelihoods.distributions import BINARY
from density.likelihoods.head import Pixels
from density.tables.columns import Columns
from density.tables.frames import from_frame
from univae.data_frames import as_frame, is_named
from univae.data_record import stored_units
from univae.dtypes import is_number_array
from univae.errors import InputError
from univae.rules import OTHER_VERSION, reading
from univae.run_folder import RunFolder

__all__ = ["Binarisation", "DataUnits", "black_or_white"]

SEEDS = 2**64  # NumPy takes no negative seed

Binarisation: TypeAlias = Literal["static", "threshold"]

# Binarisation in training -> that of scores and codes, which is the same at every call.
FIXED: Mapping[object, Binarisation] = {
    "auto": "static",
    "dynamic": "static",
    "static": "static",
    "threshold": "threshold",
}


@dataclass(frozen=True)
class DataUnits:
    """What converts rows between the units of the data and those of a model.

    ``levels`` are those of the data, None for real numbers; ``centre`` is subtracted from real
    numbers, one number or one per column; ``binarisation`` is None unless grey levels become black
    or white, drawn from ``seed``; ``dtype`` is the name of that of
    real numbers; ``columns`` is the schema of a table with named columns.
    """

    shape: tuple[int, ...]
    levels: int | None
    centre: np.ndarray | None = None
    binarisation: Binarisation | None = None
    seed: int = 0
    dtype: str = "float64"
    columns: Columns | None = None

    @classmethod
    def of(cls, folder: RunFolder, pixels: Pixels) -> "DataUnits":
        """Return the units of a run, whose model is of ``pixels``.

        A run of version 0.1.0 has no record of its data, which are then those of the model.

        Raises:
            InputError: ``data.json`` lacks a unit, or one does not fit the model.
        """
        stored = stored_units(folder, tuple(pixels.shape))
        if stored is None:
            return cls(tuple(pixels.shape), pixels.level_count)
        with reading(folder.path / "data.json"):
            columns = Columns.from_json(stored.columns) if stored.columns else None
            laws = tuple(pixels.kinds), tuple(pixels.sizes)
            if columns is not None and pixels.kinds and (columns.kinds, columns.sizes) != laws:
                raise InputError("columns must have the kinds and categories of the model's")

        binarisation = None
        if stored.levels is not None and pixels.level_count == BINARY:
            binarisation = FIXED.get(str(folder.config.get("binarisation")))
        return cls(
            shape=stored.shape,
            levels=stored.levels,
            centre=stored.centre,
            binarisation=binarisation,
            seed=_seed(folder),
            dtype=stored.dtype.name if stored.dtype.kind == "f" else "float64",
            columns=columns,
        )

    @property
    def is_images(self) -> bool:
        """Whether a row is an image, of shape (channels, height, width)."""
        return len(self.shape) == IMAGE_DIMS

    def to_model(self, data: ArrayLike) -> Tensor:
        r"""Return rows of the data as the model takes them: (N, \*shape), of the default dtype.

        ``data`` is (N, \*shape) or one row; images may have their channels last, and grey ones no
        axis of channels. Of a table with named columns it may be a data frame, or a Series, which
        is a row of one; their cells are encoded by the schema.

        Raises:
            InputError: the shape is another, or a value is not finite, or not one of the levels, or
                a data frame lacks a column or holds a cell that does not fit.
        """
        values = self._rows(self._array(data))
        if self.columns is not None:
            self.columns.check(values)
        elif not np.isfinite(values).all():
            raise InputError("data: must be finite; got NaN or infinity; drop or fill it")
        if self.levels is not None:
            self._require_levels(values, self.levels)
        if self.levels is not None and self.binarisation is not None:
            values = black_or_white(values, self.levels, self.binarisation, self.seed)
        if self.centre is not None:
            values = values.astype(np.float64) - self.centre
        return torch.tensor(values, dtype=torch.get_default_dtype())

    def from_model(self, x: Tensor) -> np.ndarray:
        r"""Return rows (N, \*shape) of the model in the units of the data.

        Levels are rounded to uint8, and black and white become the lowest and the highest level;
        the probability of white becomes a grey level. Real numbers have the dtype of the data.
        """
        values = x.double().cpu().numpy()
        if self.levels is not None:
            if self.binarisation is not None:
                values = values * (self.levels - 1)
            return np.clip(np.round(values), 0, self.levels - 1).astype(np.uint8)
        if self.centre is not None:
            values = values + self.centre
        return values.astype(self.dtype)

    def _array(self, data: ArrayLike) -> np.ndarray:
        """Return data as an array: named columns encoded by the schema, other numbers as they are.

        A Series is a row of a data frame where columns have names.
        """
        if self.columns is not None and is_named(data):
            return self.columns.encode(from_frame(as_frame(data)))
        try:
            return np.asarray(data)
        except ValueError as error:  # lists of different lengths
            raise InputError(
                f"data: must be numbers of shape (N, {self._sides()}); got rows of different "
                "lengths; make them equally long"
            ) from error

    def _rows(self, values: np.ndarray) -> np.ndarray:
        r"""Return an array as rows (N, \*shape)."""
        if not is_number_array(values):
            raise InputError(
                f"data: must be numbers of shape (N, {self._sides()}); got dtype {values.dtype}"
            )
        for layout in self._layouts():
            for rows in (values, values[None]):
                if rows.shape[1:] == layout and len(rows):
                    channels_last = layout != self.shape and len(layout) == IMAGE_DIMS
                    in_order = np.moveaxis(rows, -1, 1) if channels_last else rows
                    return in_order.reshape(-1, *self.shape)
        raise InputError(
            f"data: must be of shape (N, {self._sides()}), N at least 1; got {values.shape}"
        )

    def _layouts(self) -> list[tuple[int, ...]]:
        """Return the shapes that one row may have."""
        if not self.is_images:
            return [self.shape]
        channels, height, width = self.shape
        layouts = [self.shape, (height, width, channels)]
        return [*layouts, (height, width)] if channels == 1 else layouts

    def _sides(self) -> str:
        return ", ".join(map(str, self.shape))

    def _require_levels(self, values: np.ndarray, levels: int) -> None:
        low = values.min()
        high = values.max()
        if low < 0 or high > levels - 1 or (values != np.round(values)).any():
            raise InputError(
                f"data: must hold the levels 0..{levels - 1}, whole numbers; got {low:g}..{high:g}"
            )


def _seed(folder: RunFolder) -> int:
    """Return the seed of a run, which black and white pixels are drawn from."""
    seed = folder.config.get("seed", 0)
    if type(seed) is not int:
        file = folder.path / "config.json"
        raise InputError(f"{file}: seed must be a whole number; got {seed!r}; {OTHER_VERSION}")
    return seed


def black_or_white(
    values: np.ndarray, levels: int, how: Binarisation, seed: int = 0, chunk: int = 4096
) -> np.ndarray:
    r"""Return levels 0..levels-1 as zeros and ones, uint8.

    ``static`` draws each pixel, 1 with probability grey / (levels - 1), from ``seed``;
    ``threshold`` is 1 above half of levels - 1. ``chunk`` rows are converted at once.

    References:
        On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008)
    """
    generator = np.random.default_rng(seed % SEEDS)
    binary = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), chunk):
        grey = values[start : start + chunk] / np.float32(levels - 1)
        threshold: np.ndarray | float = 0.5
        if how == "static":
            threshold = generator.random(grey.shape, np.float32)
        binary[start : start + chunk] = grey > threshold
    return binary
