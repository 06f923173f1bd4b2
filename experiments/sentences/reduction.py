r"""Vectors in fewer dimensions.

Both reductions are projections on eigenvectors of :math:`\sum_i x_i x_i^\top`, computed in float64;
the sign of an eigenvector is that which makes its largest entry positive.
"""

import numpy as np

__all__ = ["principal_axes", "principal_components", "reduced"]

ROWS = 2**14  # converted to float64 at once


def principal_axes(vectors: np.ndarray, count: int) -> np.ndarray:
    r"""Return the eigenvectors (width, count) of the largest eigenvalues, largest first.

    Of vectors X (N, width), :math:`\|X X^\top - X A A^\top X^\top\|` is least for these A.
    """
    moments = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), ROWS):
        rows = vectors[start : start + ROWS].astype(np.float64)
        moments += rows.T @ rows
    _, ascending = np.linalg.eigh(moments)
    axes = ascending[:, ::-1][:, :count]
    largest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    signed: np.ndarray = axes * np.where(largest < 0, -1.0, 1.0)
    return signed


def principal_components(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return the coordinates (N, count), float64, of centred vectors on their principal axes."""
    centred = vectors.astype(np.float64)
    centred -= centred.mean(0)
    components: np.ndarray = centred @ principal_axes(centred, count)
    return components


def reduced(vectors: np.ndarray, width: int) -> np.ndarray:
    """Return vectors of at most ``width`` numbers whose inner products are nearest to the old ones.

    The vectors are not centred, since cosines depend on their mean.
    """
    if vectors.shape[1] <= width:
        return vectors
    projected: np.ndarray = vectors @ principal_axes(vectors, width).astype(vectors.dtype)
    return projected
