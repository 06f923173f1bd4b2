"""Buckets of equal mass: the code of a continuous latent coordinate."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from density.coding.ans import LEAST, TOTAL
from density.coding.finite import NotFinite

__all__ = ["BUCKETS", "RADIX", "BucketGrid", "Span"]

BUCKETS = 2**12  # of a latent coordinate

RADIX = 16  # of the search for a bucket


class Span(NamedTuple):
    """Intervals of latents in their tables: starts and sizes, (count, width)."""

    start: np.ndarray
    size: np.ndarray


class BucketGrid:
    r"""Buckets of equal mass under :math:`N(\mu_d, \sigma_d^2)`, one grid a coordinate.

    Under another Gaussian, bucket i has the integers from :meth:`start` of i up to that of i + 1.
    The start is the Gaussian's distribution function at the edge of the bucket, plus two integers
    per bucket: no bucket in the tails is empty, also under rounding errors in the last place of the
    function.
    """

    _edges = ndtri(np.arange(BUCKETS + 1) / BUCKETS)  # the outermost are infinite
    _centres = ndtri((np.arange(BUCKETS) + 0.5) / BUCKETS)

    def __init__(self, mean: np.ndarray, scale: np.ndarray) -> None:
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise NotFinite("a grid of latents has no finite mean and deviation")
        self.mean = mean
        self.scale = scale

    def centres(self, bucket: np.ndarray) -> np.ndarray:
        """Return the value of a bucket, (..., d): its median under the grid's Gaussian."""
        values: np.ndarray = self.mean + self.scale * self._centres[bucket]
        return values

    def start(self, bucket: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        r"""Return :math:`\lfloor F(e_i) (\text{TOTAL} - 2\, \text{BUCKETS}) \rfloor + 2 i`.

        F is the distribution function of N(``mean``, ``scale``), :math:`e_i` the lower edge of
        bucket i.

        Raises:
            NotFinite: an edge is no number, because means are too far apart for float64.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            edge = (self._edges[bucket] * self.scale + (self.mean - mean)) / scale
        if np.isnan(edge).any():
            rows = np.isnan(edge).any(-1).reshape(-1, edge.shape[-2]).any(0)
            raise NotFinite(
                "the mean of a distribution of latents lies beyond float64 from its grid",
                int(rows.argmax()),
            )
        below = np.floor(ndtr(edge) * (TOTAL - LEAST * BUCKETS)).astype(np.int64)
        start: np.ndarray = below + LEAST * bucket
        return start

    def interval(self, bucket: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Span:
        """Return start and size of a bucket under N(``mean``, ``scale``)."""
        start = self.start(bucket, mean, scale)
        return Span(start, self.start(bucket + 1, mean, scale) - start)

    def find(self, position: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the bucket (..., d) that contains an integer under N(``mean``, ``scale``)."""
        bucket = np.zeros(position.shape, np.int64)
        digits = np.arange(1, RADIX).reshape(-1, *[1] * position.ndim)
        step = BUCKETS
        while step > 1:
            step //= RADIX
            starts = self.start(bucket + step * digits, mean, scale)
            bucket = bucket + step * (starts <= position).sum(0)
        return bucket
