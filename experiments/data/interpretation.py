"""Interpret the array of a file as images or a table, of grey levels or real numbers.

(N, columns) is a table; (N, height, width) and four axes are images, channels first or last.
uint8 and bool hold levels, and so do whole numbers in images: 2 levels for zeros and ones, 256
otherwise. All other numbers are real, in float32 or float64.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from experiments.data.arrays import Data, Kind, row_chunks
from univae.dtypes import is_float_array, is_integer_array, is_number_array
from univae.errors import InputError

__all__ = ["interpret"]

TABLE_AXES = 2
GREY_IMAGE_AXES = 3
IMAGE_AXES = 4
LAST_AXIS = 3  # of images, where channels may lie
CHANNELS = (1, 3)  # grey; red, green and blue
WITH_ALPHA = (2, 4)  # the same, and how opaque a pixel is
BLACK_AND_WHITE = 2  # levels of zeros and ones
TOP_LEVEL = 255  # of 8 bits a channel
EXACT_INTEGERS = 2**53  # float64 represents every whole number up to here
FLOAT64_BYTES = 8


def interpret(
    values: ArrayLike,
    labels: ArrayLike | None,
    name: str,
    source: str,
    notes: Sequence[str] = (),
) -> Data:
    """Return the array of a file as :class:`Data`, with a note for each assumption.

    Args:
        values: the array, as stored.
        labels: one number per row, or None.
        name: the name of the data set, for notes.
        source: the file and the array in it, for messages.
        notes: notes of the reader of the file.

    Raises:
        InputError: the numbers, axes or labels break one of the rules above.
    """
    original = np.asanyarray(values)
    _require_array(original, source)

    array = _channels_first(original, source)
    levels = _levels(array, source)
    assumptions = _assumptions(original, levels, name)
    array = _converted(array, levels)
    kind: Kind = "table" if array.ndim == TABLE_AXES else "images"
    checked_labels = _checked_labels(labels, len(array), source)
    all_notes = (*notes, *assumptions)
    return Data(array, levels, checked_labels, name, kind, original, notes=all_notes)


def _require_array(array: np.ndarray, source: str) -> None:
    if not is_number_array(array):
        raise InputError(
            f"{source} must hold numbers; got dtype {array.dtype}; save whole or real numbers"
        )
    if array.ndim not in (TABLE_AXES, GREY_IMAGE_AXES, IMAGE_AXES) or not array.size:
        raise InputError(
            f"{source} must be (N, columns), (N, height, width), (N, channels, height, width) or "
            f"(N, height, width, channels), all positive; got {array.shape}; reshape it"
        )


def _converted(array: np.ndarray, levels: int | None) -> np.ndarray:
    """Return levels as uint8, real numbers as float32 or float64."""
    if levels is not None:
        return array.astype(np.uint8, copy=False)
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float64)


def _channels_first(array: np.ndarray, source: str) -> np.ndarray:
    if array.ndim == GREY_IMAGE_AXES:
        return array[:, None]
    if array.ndim == TABLE_AXES:
        return array
    axis = _channel_axis(array.shape)
    if axis is None:
        raise InputError(
            f"{source} must have 1 to 4 channels, first or last; got {array.shape}; convert it"
        )
    return np.moveaxis(array, axis, 1)


def _channel_axis(shape: Sequence[int]) -> int | None:
    """Return the axis of the channels: the first of axes 1 and 3 without alpha, else with it."""
    for counts in (CHANNELS, WITH_ALPHA):
        for axis in (1, LAST_AXIS):
            if shape[axis] in counts:
                return axis
    return None


def _levels(array: np.ndarray, source: str) -> int | None:
    """Return 2 for zeros and ones, 256 for other levels, None for real numbers.

    Raises:
        InputError: a number is NaN or infinite, or whole numbers of images are out of 0..255.
    """
    extremes = np.array([(rows.min(), rows.max()) for rows in row_chunks(array)])
    # both are NaN if any number is
    low = extremes.min()
    high = extremes.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        row = next(i for i in range(len(array)) if not np.isfinite(array[i]).all())
        raise InputError(
            f"{source} must be finite; got NaN or infinity in row {row} (from 0); drop or fill it"
        )
    if array.ndim == TABLE_AXES and array.dtype not in (np.uint8, np.bool_):
        return None

    in_range = low >= 0 and high <= TOP_LEVEL
    if is_integer_array(array) and not in_range:
        raise InputError(
            f"whole numbers in {source} must be levels 0..{TOP_LEVEL}; got {low}..{high}; "
            "rescale them or save real numbers"
        )
    if is_float_array(array) and not (in_range and _all_whole(row_chunks(array))):
        return None
    return BLACK_AND_WHITE if high <= 1 else TOP_LEVEL + 1


def _all_whole(chunks: Iterable[np.ndarray]) -> bool:
    return all(bool((chunk == np.round(chunk)).all()) for chunk in chunks)


def _assumptions(array: np.ndarray, levels: int | None, name: str) -> list[str]:
    """Return a note for each assumption about the meaning of the stored numbers."""
    notes = []
    if array.ndim == IMAGE_AXES:
        both = (*CHANNELS, *WITH_ALPHA)
        axis = _channel_axis(array.shape)
        if array.shape[1] in both and array.shape[LAST_AXIS] in both:
            other = LAST_AXIS if axis == 1 else 1
            notes.append(
                f"{name}: of the shape {array.shape}, axis {axis} is taken for the channels, "
                f"not axis {other}"
            )
    if levels is not None and is_float_array(array):
        meaning = "black and white" if levels == BLACK_AND_WHITE else "levels of 0..255"
        extent = f"{array.min():g}..{array.max():g}"
        notes.append(f"{name}: real numbers that are all whole, {extent}, taken for {meaning}")
    if levels is None and is_integer_array(array) and _largest_magnitude(array) > EXACT_INTEGERS:
        notes.append(f"{name}: whole numbers beyond 2**53 are rounded to float64")
    if is_float_array(array) and array.dtype.itemsize > FLOAT64_BYTES:
        bits = 8 * array.dtype.itemsize
        notes.append(f"{name}: numbers of {bits} bits are rounded to float64")
    return notes


def _largest_magnitude(array: np.ndarray) -> int:
    # in Python's integers: the magnitude of the smallest int64 is beyond int64
    return max(-int(array.min()), int(array.max()))


def _checked_labels(labels: ArrayLike | None, count: int, source: str) -> np.ndarray | None:
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.shape != (count,) or not is_number_array(array):
        raise InputError(
            f"labels of {source} must be {count} numbers; got {array.dtype} of shape "
            f"{array.shape}; drop them"
        )
    return array
