"""Buckets of equal mass: the code of a continuous latent coordinate."""

import numpy as np
from scipy.special import ndtr, ndtri

from density.coding.ans import LEAST, TOTAL

__all__ = ["BUCKETS", "RADIX", "Grid"]

BUCKETS = 2**12  # of a latent coordinate

RADIX = 16  # of the search for a bucket


class Grid:
    r"""Buckets of equal mass under :math:`N(\mu_d, \sigma_d^2)`, one grid a coordinate, the code of a latent.

    Under another Gaussian law, bucket i owns the integers from :meth:`start` of i up to that of i +
    1. The start is the law's distribution function at the edge of the bucket, with two integers a
    bucket on top: the tails cannot starve, and an error of rounding in the last place of the
    function cannot make an interval empty.
    """

    _edges = ndtri(np.arange(BUCKETS + 1) / BUCKETS)  # the outermost are infinite
    _centres = ndtri((np.arange(BUCKETS) + 0.5) / BUCKETS)

    def __init__(self, mean: np.ndarray, scale: np.ndarray) -> None:
        self.mean = mean
        self.scale = scale

    def centres(self, bucket: np.ndarray) -> np.ndarray:
        """The value that stands for a bucket, (..., d): its median under the grid's own law."""
        return self.mean + self.scale * self._centres[bucket]

    def start(self, bucket: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        r"""Return :math:`\lfloor F(e_i) (\text{TOTAL} - 2\, \text{BUCKETS}) \rfloor + 2 i` of N(``mean``, ``scale``)."""
        edge = (self._edges[bucket] * self.scale + (self.mean - mean)) / scale
        return np.floor(ndtr(edge) * (TOTAL - LEAST * BUCKETS)).astype(np.int64) + LEAST * bucket

    def interval(
        self, bucket: np.ndarray, mean: np.ndarray, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start and size of a bucket."""
        start = self.start(bucket, mean, scale)
        return start, self.start(bucket + 1, mean, scale) - start

    def find(self, position: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The bucket that owns an integer below ``TOTAL``, (..., d)."""
        bucket = np.zeros(position.shape, np.int64)
        step = BUCKETS
        rungs = np.arange(1, RADIX).reshape(-1, *[1] * position.ndim)
        while step > 1:
            step //= RADIX
            bucket = bucket + step * (
                self.start(bucket + step * rungs, mean, scale) <= position
            ).sum(0)
        return bucket
