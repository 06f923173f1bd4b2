"""Distances between two sets of features: the Fréchet distance (moments) and the MMD (kernel).

References:
    GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017),
    https://arxiv.org/abs/1706.08500

    Demystifying MMD GANs (Binkowski et al., 2018), https://arxiv.org/abs/1801.01401
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gan.metrics.points import ROWS_PER_BLOCK, checked_points

__all__ = ["frechet_distance", "kernel_distance"]

# The kernel (<x, y> / D + 1)^3 of the kernel Inception distance.
KERNEL_POWER = 3


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    r"""Return the Fréchet distance of two fitted Gaussians.

    .. math:: \|\mu - \nu\|^2 + \mathrm{tr}(A + B - 2 (A^{1/2} B A^{1/2})^{1/2})

    The unit is a squared length in feature space. The upward bias is about :math:`D / N`: compare
    values of the same N only.
    """
    a, b = checked_points(a, b, "frechet_distance")
    covariance_a = _covariance(a)
    covariance_b = _covariance(b)
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp_min(0).sqrt().sum()
    traces = covariance_a.trace() + covariance_b.trace()
    squared_shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(squared_shift + traces - 2 * cross)


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    r"""Return the unbiased squared MMD with the kernel :math:`(\langle x, y \rangle / D + 1)^3`.

    For two sets of one distribution it is 0 on average, and often negative.
    """
    a, b = checked_points(a, b, "kernel_distance")
    across = 2 * _kernel_sum(a, b) / (len(a) * len(b))
    return float(_mean_kernel_of_pairs(a) + _mean_kernel_of_pairs(b) - across)


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
