"""The Fréchet distance from means and covariances, as files of reference statistics store them."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gan.metrics.points import FEWEST_POINTS, ROWS_PER_BLOCK
from univae.errors import InputError

__all__ = ["Moments", "frechet_distance_of_moments", "moments"]


class Moments(NamedTuple):
    """Mean and unbiased covariance of features, in float64."""

    mean: Float[Tensor, "d"]
    covariance: Float[Tensor, "d d"]


def moments(points: Float[Tensor, "n d"]) -> Moments:
    """Return mean and covariance of points, a block of rows in float64 at a time.

    Raises:
        InputError: there are fewer than two points, or one is not finite.
    """
    if len(points) < FEWEST_POINTS:
        raise InputError(f"moments: needs two points at least; got {len(points)}")
    if not points.isfinite().all():
        raise InputError("moments: points must be finite; got NaN or infinity")

    mean = points.sum(0, dtype=torch.float64) / len(points)
    covariance = mean.new_zeros(len(mean), len(mean))
    for block in torch.split(points, ROWS_PER_BLOCK):
        centred = block.double() - mean
        covariance += centred.T @ centred
    return Moments(mean, covariance / (len(points) - 1))


def frechet_distance_of_moments(a: Moments, b: Moments) -> float:
    r"""Return the Fréchet distance of two Gaussians.

    .. math:: \|\mu - \nu\|^2 + \mathrm{tr}(A + B - 2 (A^{1/2} B A^{1/2})^{1/2})

    The eigenvalues of :math:`A^{1/2} B A^{1/2}` are those of :math:`AB`, whose square roots the
    usual programs sum.

    Raises:
        InputError: the means have different numbers of features.
    """
    if a.mean.shape != b.mean.shape:
        raise InputError(
            "frechet_distance_of_moments: needs moments of the same features; got "
            f"{len(a.mean)} and {len(b.mean)}"
        )
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()
    traces = a.covariance.trace() + b.covariance.trace()
    squared_shift = (a.mean - b.mean).square().sum()
    return float(squared_shift + traces - 2 * cross)
