"""Bits per dimension of masses and of densities, and dequantisation to compare the two.

References:
    A note on the evaluation of generative models (Theis et al., 2016),
    https://arxiv.org/abs/1511.01844
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from density.likelihoods.distributions import Nats

__all__ = ["BitsPerDim", "bits_per_dim", "dequantise"]


class BitsPerDim(NamedTuple):
    """Bits per pixel or column, and their definition."""

    value: Tensor
    convention: str  # one sentence, for reports and JSON


def bits_per_dim(log_p: Tensor, dims: int, nats: Nats, levels: int | None = None) -> BitsPerDim:
    r"""Return :math:`-\log p / (D \ln 2)`, plus :math:`\log_2` ``levels`` for a density.

    The density of :func:`dequantise`\ d data is on [0, 1], where a level is 1/levels wide.
    ``levels`` is ignored for a mass; without it the result is of the density in the unit of the
    data.

    >>> bits_per_dim(torch.tensor(0.0), dims=784, nats="density", levels=256).value
    tensor(8.)

    Args:
        log_p: log-probabilities or log-densities in nats.
        dims: the number D of pixels, channels counted, or of columns.
        nats: whether ``log_p`` is of a mass or of a density.
        levels: the levels of dequantised data.
    """
    bits = -log_p / (dims * math.log(2))
    return _CONVENTIONS[nats](bits, dims, levels)


def dequantise(x: Tensor, levels: int) -> Tensor:
    r"""Return whole levels spread over [0, 1): :math:`v = (x + u) / \text{levels}`, u uniform.

    Then :math:`E_u \log p(v) - D \log \text{levels} \le \log P(x)`, the mass that the density gives
    the cell of x. Every call draws another u from PyTorch's global generator: call it once
    for the data that are scored, so that all scores are of the same data.
    """
    return (x + torch.rand_like(x)) / levels


def _of_mass(bits: Tensor, dims: int, levels: int | None) -> BitsPerDim:
    return BitsPerDim(
        bits, f"bits per dimension = -log2 P(x) / {dims}, P the probability of the levels of x"
    )


def _of_density(bits: Tensor, dims: int, levels: int | None) -> BitsPerDim:
    if levels is None:
        return BitsPerDim(
            bits,
            f"bits per dimension = -log2 p(x) / {dims}, p a density: it depends on the unit of "
            "the data and may be negative",
        )
    return BitsPerDim(
        bits + math.log2(levels),
        f"bits per dimension = -log2 p(v) / {dims} + log2 {levels}, p the density of "
        f"v = (x + u) / {levels}, u uniform on [0, 1): in expectation an upper bound on the bits "
        "of the levels of x",
    )


_CONVENTIONS: Mapping[Nats, Callable[[Tensor, int, int | None], BitsPerDim]] = {
    "mass": _of_mass,
    "density": _of_density,
}
