"""Latents from a truncated normal distribution: fewer unusual samples, and less variety.

References:
    Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock et al., 2018),
    https://arxiv.org/abs/1809.11096
"""

import torch
from torch import Tensor

from univae.errors import InputError

__all__ = ["SMALLEST", "truncated_normal"]

SMALLEST = 0.01  # threshold; with smaller ones most draws are rejected for long


def truncated_normal(count: int, width: int, truncation: float) -> Tensor:
    r"""Draw latents (count, width) whose every number is standard normal given :math:`|z| \le c`.

    Numbers beyond the threshold c, ``truncation``, are drawn again until none is.

    Raises:
        InputError: the threshold is below 0.01.
    """
    if not truncation >= SMALLEST:
        raise InputError(
            f"sample: truncation must be at least {SMALLEST}, or None for all latents; "
            f"got truncation={truncation}"
        )
    z = torch.randn(count, width)
    beyond = z.abs() > truncation
    while bool(beyond.any()):
        z[beyond] = torch.randn(int(beyond.sum()))
        beyond = z.abs() > truncation
    return z
