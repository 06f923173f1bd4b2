"""Images in [-1, 1] and standardised table columns, and the way back to the units of the data."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from experiments.data.arrays import Data
from experiments.data.records import without_rows
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["in_units_of", "restored", "scaled", "seen", "shown", "standardised"]


def scaled(x: Tensor, levels: int | None) -> Tensor:
    """Levels 0..levels-1 to [-1, 1]; real numbers stay."""
    return x if levels is None else 2 * x / (levels - 1) - 1


def seen(data: Data, rows: Sequence[int] | np.ndarray | slice) -> Tensor:
    """Return rows as a GAN sees them: less ``centre``, over ``spread``; or levels on [-1, 1]."""
    x = data.batch(rows)
    return x if data.centre is not None else scaled(x, data.levels)


def shown(x: Tensor) -> Tensor:
    """Images in [-1, 1] as levels 0..255, for :func:`experiments.reports.image_grid.write_grid`."""
    return (127.5 * (x + 1)).clamp(0, 255)


def standardised(data: Data) -> Data:
    """Return tables in columns of mean 0 and deviation 1, and real-valued images in [-1, 1].

    The moments of the columns, or the smallest and largest number of all images, are computed in
    float64 and become ``centre`` and ``spread``. Images of levels stay as they are, see
    :func:`scaled`.

    Raises:
        InputError: the numbers are too large for their squares to be finite.
    """
    if data.kind == "images" and data.levels is not None:
        return data
    if data.kind == "images":
        low = float(data.values.min())
        high = float(data.values.max())
        centre = np.array(low / 2 + high / 2)
        spread = np.array(high / 2 - low / 2)
    else:
        centre, spread = _moments(data.values)
    if not np.isfinite(spread).all():
        raise InputError(
            f"{data.name}: the numbers are too large, up to {np.abs(data.values).max():.3g}; rescale them"
        )
    return replace(data, centre=centre, spread=np.where(spread > 0, spread, 1.0), original=None)


def restored(x: Tensor, data: Data) -> np.ndarray:
    """Return what a GAN makes in the numbers of its data, the inverse of :func:`seen`.

    Levels are whole numbers 0..levels-1 as uint8, others have the units and the dtype of the data.
    """
    numbers = x.double().cpu().numpy()
    if data.centre is not None and data.spread is not None:
        numbers = numbers * data.spread + data.centre
    elif data.levels is not None:
        numbers = (numbers + 1) / 2 * (data.levels - 1)
    if data.levels is not None:
        return np.clip(np.round(numbers), 0, data.levels - 1).astype(np.uint8)
    return numbers.astype(data.values.dtype)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 means and deviations of the columns; of a constant one its number and 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        table = np.asarray(values, np.float64)
        constant = table.min(0) == table.max(0)
        mean = np.where(constant, table[0], table.mean(0))
        return mean, np.where(constant, 0.0, table.std(0))


def in_units_of(data: Data, run: RunFolder | None) -> Data:
    """Return data in the units of a run, or in their own for a run that is yet to start.

    A run of version 0.1.0, without a record of its data, has real-valued images as they are.
    """
    if run is None:
        return standardised(data)
    record = run.data_record()
    if not record:
        return data if data.kind == "images" else standardised(data)
    units = without_rows(record["data"])
    return replace(data, centre=units.centre, spread=units.spread, original=None)
