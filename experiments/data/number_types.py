"""Questions about the numbers that an array holds, by NumPy's kinds of dtype."""

import numpy as np

__all__ = ["is_floating", "is_integer", "is_numeric"]

# NumPy's letters: b bool, u unsigned and i signed integers, f floating point
INTEGER_KINDS = "bui"
FLOATING_KINDS = "f"


def is_integer(array: np.ndarray) -> bool:
    """Return whether an array holds whole numbers by its dtype; booleans count as 0 and 1."""
    return array.dtype.kind in INTEGER_KINDS


def is_floating(array: np.ndarray) -> bool:
    """Return whether an array holds real numbers in floating point, of any width."""
    return array.dtype.kind in FLOATING_KINDS


def is_numeric(array: np.ndarray) -> bool:
    """Return whether an array holds whole or real numbers: not complex ones, texts or objects."""
    return is_integer(array) or is_floating(array)
