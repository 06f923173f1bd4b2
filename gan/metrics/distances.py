"""Distances between two sets of features: the Fréchet distance (moments) and the MMD (kernel).

References:
    GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017),
    https://arxiv.org/abs/1706.08500

    Demystifying MMD GANs (Binkowski et al., 2018), https://arxiv.org/abs/1801.01401
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gan.metrics.gaussians import Moments, frechet_distance_of_moments
from gan.metrics.points import ROWS_PER_BLOCK, checked_points
from univae.errors import InputError

__all__ = ["SubsetDistance", "frechet_distance", "kernel_distance", "kernel_distance_of_subsets"]

# The kernel (<x, y> / D + 1)^3 of the kernel Inception distance.
KERNEL_POWER = 3


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    r"""Return the Fréchet distance of two fitted Gaussians.

    .. math:: \|\mu - \nu\|^2 + \mathrm{tr}(A + B - 2 (A^{1/2} B A^{1/2})^{1/2})

    The unit is a squared length in feature space. The upward bias is about :math:`D / N`: compare
    values of the same N only.
    """
    a, b = checked_points(a, b, "frechet_distance")
    return frechet_distance_of_moments(
        Moments(a.mean(0), _covariance(a)), Moments(b.mean(0), _covariance(b))
    )


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    r"""Return the unbiased squared MMD with the kernel :math:`(\langle x, y \rangle / D + 1)^3`.

    For two sets of one distribution it is 0 on average, and often negative.
    """
    a, b = checked_points(a, b, "kernel_distance")
    across = 2 * _kernel_sum(a, b) / (len(a) * len(b))
    return float(_mean_kernel_of_pairs(a) + _mean_kernel_of_pairs(b) - across)


class SubsetDistance(NamedTuple):
    """Mean and standard deviation of a distance over pairs of random subsets."""

    mean: float
    deviation: float


def kernel_distance_of_subsets(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "m d"],
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> SubsetDistance:
    """Return :func:`kernel_distance` of random subsets of both sets: how the KID is published.

    The defaults, and the order of draws with generated points as ``a``, are those of
    torch-fidelity, which computes in the dtype of its features; here it is float64.

    Raises:
        InputError: a set has fewer than ``size`` points.
    """
    if min(len(a), len(b)) < size:
        raise InputError(
            f"kernel_distance_of_subsets: subsets of {size} points need as many a side; got "
            f"{len(a)} and {len(b)}"
        )
    draws = np.random.RandomState(seed)
    distances = []
    for _ in range(subsets):
        subset_of_a = a[draws.choice(len(a), size, replace=False)]
        subset_of_b = b[draws.choice(len(b), size, replace=False)]
        distances.append(kernel_distance(subset_of_a, subset_of_b))
    return SubsetDistance(float(np.mean(distances)), float(np.std(distances)))


def _covariance(x: Tensor) -> Tensor:
    return x.T.cov(correction=1).reshape(x.shape[1], -1)


def _kernel_sum(a: Tensor, b: Tensor) -> Tensor:
    sums = []
    for block in torch.split(a, ROWS_PER_BLOCK):
        kernel = (block @ b.T / a.shape[1] + 1).pow(KERNEL_POWER)
        sums.append(kernel.sum())
    return torch.stack(sums).sum()


def _mean_kernel_of_pairs(x: Tensor) -> Tensor:
    """Return the mean kernel of two different points of one set."""
    of_equal_points = (x.square().sum(1) / x.shape[1] + 1).pow(KERNEL_POWER).sum()
    pairs = len(x) * (len(x) - 1)
    return (_kernel_sum(x, x) - of_equal_points) / pairs
