"""Nats in bits per dimension, of a mass and of a density, and dequantisation, which makes the two comparable.

References:
    A note on the evaluation of generative models (Theis et al., 2016),
    https://arxiv.org/abs/1511.01844
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from density.likelihoods.laws import Nats

__all__ = ["BitsPerDim", "bits_per_dim", "dequantise"]


class BitsPerDim(NamedTuple):
    """Bits per pixel or column, and the sentence without which the number says nothing."""

    value: Tensor
    convention: str


def bits_per_dim(log_p: Tensor, dims: int, nats: Nats, levels: int | None = None) -> BitsPerDim:
    r"""Turn :math:`\log p(x)` in nats into :math:`-\log p / (D \ln 2)`, plus :math:`\log_2` ``levels`` for a density.

    The density of :func:`dequantise`\ d data lives on [0, 1], where a level is 1/levels wide.
    ``levels`` is ignored for a mass; without it a density stays one, in the unit of the data.

    >>> bits_per_dim(torch.tensor(0.0), dims=784, nats="density", levels=256).value
    tensor(8.)
    """
    bits = -log_p / (dims * math.log(2))
    if nats == "mass":
        return BitsPerDim(
            bits, f"bits per dimension = -log2 P(x) / {dims}, P the probability of the levels of x"
        )
    if levels is None:
        return BitsPerDim(
            bits,
            f"bits per dimension = -log2 p(x) / {dims}, p a density: it moves with the unit of the data "
            "and may be negative",
        )
    return BitsPerDim(
        bits + math.log2(levels),
        f"bits per dimension = -log2 p(v) / {dims} + log2 {levels}, p the density of v = (x + u) / {levels}, u uniform "
        "on [0, 1): in expectation an upper bound on the bits of the levels of x",
    )


def dequantise(x: Tensor, levels: int) -> Tensor:
    r"""Spread whole levels over [0, 1): :math:`v = (x + u) / \text{levels}`, u uniform, fresh at every call.

    Then :math:`E_u \log p(v) - D \log \text{levels} \le \log P(x)`, the mass that the density gives
    the cell of x. The noise belongs to the data: draw it once for those that are scored, so that a
    likelihood stays a function.
    """
    return (x + torch.rand_like(x)) / levels
