"""Checks of the two point sets that a metric compares."""

from torch import Tensor

from univae.errors import InputError

__all__ = ["FEWEST_POINTS", "ROWS_PER_BLOCK", "checked_points"]

# Rows of a distance matrix computed at once: bounds the memory, 8 MB per 1,000 columns.
ROWS_PER_BLOCK = 1024

# A covariance and a distance between points need two points.
FEWEST_POINTS = 2
MATRIX_DIMENSIONS = 2


def checked_points(a: Tensor, b: Tensor, who: str) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, detached.

    Raises:
        InputError: they are not matrices of the same width, have fewer than two points, or are not
            finite; the message starts with ``who``.
    """
    are_matrices = a.ndim == b.ndim == MATRIX_DIMENSIONS
    if not (are_matrices and a.shape[1] == b.shape[1] > 0):
        raise InputError(
            f"{who}: points must be two matrices with the same features, one at least; got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    if min(len(a), len(b)) < FEWEST_POINTS:
        raise InputError(f"{who}: needs two points a side at least; got {len(a)} and {len(b)}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise InputError(
            f"{who}: points must be finite; got NaN or infinity; check the model's weights"
        )
    return a.detach().double(), b.detach().double()
