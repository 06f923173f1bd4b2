"""Arrays of whole numbers as the levels that a code takes, and as few bytes."""

import math
from collections.abc import Sequence

import numpy as np

from density.coding.finite import first_row
from density.likelihoods.distributions import BINARY
from univae.dtypes import is_float_array, is_number_array
from univae.errors import InputError

__all__ = ["compact", "from_compact", "levels_of"]


def levels_of(values: np.ndarray, levels: int) -> np.ndarray:
    """Return the values as int64.

    Raises:
        InputError: a value is not a whole number 0..levels-1, or is -0.0, whose sign would be
            lost.
    """
    if not is_number_array(values):
        raise InputError(
            f"compress: data must be whole numbers; got dtype {values.dtype}; convert them"
        )
    if is_float_array(values):
        negative_zeros = int(((values == 0) & np.signbit(values)).sum())
        if negative_zeros:
            raise InputError(
                f"compress: the sign of -0.0 would be lost; got {negative_zeros} of them; "
                "add 0.0 to the data"
            )
    is_level = (values >= 0) & (values < levels) & (values == np.floor(values))
    if not is_level.all():
        remedy = "use a model of these data"
        if levels == BINARY:
            remedy = "binarise the data first, or train on them as they are"
        first = values[~is_level][0]
        if is_float_array(values) and np.isnan(values).any():
            raise InputError(
                f"compress: the model codes whole numbers 0..{levels - 1}; got nan in row "
                f"{first_row(~np.isnan(values))}; fill or leave out what is missing"
            )
        raise InputError(
            f"compress: the model codes whole numbers 0..{levels - 1}; got {first!s}; {remedy}"
        )
    return values.astype(np.int64)


def compact(values: np.ndarray, levels: int) -> bytes:
    """Return rows of whole numbers 0..levels-1 in one byte each, or as many as ``levels`` needs.

    Zeros and ones are packed, eight to a byte; every row starts a byte.
    """
    if levels == BINARY:
        return np.packbits(values.reshape(len(values), -1).astype(bool), axis=1).tobytes()
    return values.astype(_dtype(levels)).tobytes()


def from_compact(content: bytes, levels: int, shape: Sequence[int]) -> np.ndarray:
    """Return the rows of :func:`compact` as int64 of a shape (rows, ...).

    Raises:
        ValueError: the content holds another number of values.
    """
    if levels == BINARY:
        row_bytes = np.frombuffer(content, np.uint8).reshape(shape[0], -1)
        values = np.unpackbits(row_bytes, axis=1, count=math.prod(shape[1:]))
    else:
        values = np.frombuffer(content, _dtype(levels))
    return values.astype(np.int64).reshape(shape)


def _dtype(levels: int) -> np.dtype:
    return np.min_scalar_type(levels - 1).newbyteorder("<")
