"""Conversion between the units of the data and of the networks of a GAN.

The networks take images in [-1, 1] and table columns of mean 0 and deviation 1.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from experiments.data.arrays import Data
from experiments.data.records import without_rows
from gan.units import DataUnits
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = [
    "gan_rows",
    "in_units_of",
    "standardise",
    "to_data_units",
    "to_grey_levels",
    "to_unit_range",
]

# Half of the largest grey level of 8 bits.
HALF_RANGE = 127.5
LARGEST_GREY_LEVEL = 255


def to_unit_range(x: Tensor, levels: int | None) -> Tensor:
    """Map levels 0..levels-1 to [-1, 1]; real numbers (``levels`` None) are unchanged."""
    return x if levels is None else 2 * x / (levels - 1) - 1


def gan_rows(data: Data, rows: Sequence[int] | np.ndarray | slice) -> Tensor:
    """Return rows in the units of the networks: standardised columns, or images in [-1, 1]."""
    x = data.batch(rows)
    return x if data.centre is not None else to_unit_range(x, data.levels)


def to_grey_levels(x: Tensor) -> Tensor:
    """Map images in [-1, 1] to grey levels 0..255, for :mod:`experiments.reports.image_grid`."""
    return (HALF_RANGE * (x + 1)).clamp(0, LARGEST_GREY_LEVEL)


def standardise(data: Data) -> Data:
    """Return data whose batches have columns of mean 0 and deviation 1, or images in [-1, 1].

    ``centre`` and ``spread`` are the moments of the columns, or the middle and half range of all
    images, computed in float64. Images of levels are returned unchanged: :func:`to_unit_range`
    converts them.

    Raises:
        InputError: the numbers are too large for their squares to be finite.
    """
    if data.is_images and data.levels is not None:
        return data
    if data.is_images:
        low = float(data.values.min())
        high = float(data.values.max())
        centre = np.array(low / 2 + high / 2)
        spread = np.array(high / 2 - low / 2)
    else:
        centre, spread = _moments(data.values)
    if not np.isfinite(spread).all():
        largest = np.abs(data.values).max()
        raise InputError(
            f"{data.name}: the numbers are too large, up to {largest:.3g}; rescale them"
        )
    return replace(data, centre=centre, spread=np.where(spread > 0, spread, 1.0), original=None)


def to_data_units(x: Tensor, data: Data) -> np.ndarray:
    """Return generated rows in the units of the data: the inverse of :func:`gan_rows`.

    See :meth:`gan.units.DataUnits.from_networks`.
    """
    units = DataUnits(data.levels, data.centre, data.spread, data.values.dtype)
    return units.from_networks(x)


def in_units_of(data: Data, run: RunFolder | None) -> Data:
    """Return data standardised by the ``centre`` and ``spread`` of a run, or by their own moments.

    Without a record of its data, as in runs of version 0.1.0, a run has unscaled images.
    """
    if run is None:
        return standardise(data)
    record = run.data_record()
    if not record:
        return data if data.is_images else standardise(data)
    units = without_rows(record["data"])
    return replace(data, centre=units.centre, spread=units.spread, original=None)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 means and standard deviations of columns; exact for a constant column."""
    with np.errstate(over="ignore", invalid="ignore"):
        table = np.asarray(values, np.float64)
        is_constant = table.min(0) == table.max(0)
        mean = np.where(is_constant, table[0], table.mean(0))
        deviation = np.where(is_constant, 0.0, table.std(0))
    return mean, deviation
