r"""The von Mises-Fisher normaliser and its derivatives in the concentration, in float64.

.. math:: L_d(\kappa) = \log {}_0F_1(; d/2; \kappa^2/4) = \log C_d(0) - \log C_d(\kappa),
          \qquad L_d' = A_d

Exponentially scaled Bessel functions, or the series where these underflow; at large concentrations
the series of :mod:`univae.latent.bessel_asymptotics`.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Real
from scipy.special import gammaln, ive
from torch import Tensor

from univae.dtypes import as_floating
from univae.latent.bessel_asymptotics import (
    asymptotic_deficit,
    asymptotic_surplus,
    is_asymptotic,
)

__all__ = [
    "deficit",
    "divergence",
    "log_normaliser",
    "log_uniform",
    "mean_length",
    "on_host",
    "surplus",
]

# Bessel functions below this value lose digits to underflow.
SMALLEST_BESSEL = 1e-290

FAR = 1e6  # a concentration at which the asymptotic series are finite

Context: TypeAlias = Any  # of an autograd.Function; torch declares no type for it


def log_normaliser(concentration: Real[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\log C_d(\kappa)`, the log of the density's normaliser.

    .. math:: C_d(\kappa) = \kappa^{d/2-1} / ((2\pi)^{d/2} I_{d/2-1}(\kappa))

    Whole numbers give the default dtype.
    """
    kappa = on_host(concentration)
    return (log_uniform(dim) - kappa - surplus(kappa, dim)).to(as_floating(concentration))


def mean_length(concentration: Real[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`A_d(\kappa) = E[m \cdot z] = I_{d/2}(\kappa) / I_{d/2-1}(\kappa)`.

    Whole numbers give the default dtype.
    """
    kappa = on_host(concentration)
    is_far, near, far = _regimes(kappa, dim)
    length = torch.where(is_far, 1 - asymptotic_deficit(far, dim), near * _ratio(near, dim))
    return length.to(as_floating(concentration))


def deficit(kappa: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`1 - A_d(\kappa)`, for ``kappa`` of :func:`on_host`."""
    is_far, near, far = _regimes(kappa, dim)
    return torch.where(is_far, asymptotic_deficit(far, dim), 1 - near * _ratio(near, dim))


def divergence(kappa: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\kappa A_d(\kappa) - L_d(\kappa)`, the KL from the uniform distribution.

    ``kappa`` is that of :func:`on_host`; the result is in nats.
    """
    is_far, near, far = _regimes(kappa, dim)
    far_divergence = -far * asymptotic_deficit(far, dim) - asymptotic_surplus(far, dim)
    near_divergence = near.square() * _ratio(near, dim) - _growth(near, dim)
    return torch.where(is_far, far_divergence, near_divergence)


def surplus(kappa: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`L_d(\kappa) - \kappa`, for ``kappa`` of :func:`on_host`."""
    is_far, near, far = _regimes(kappa, dim)
    return torch.where(is_far, asymptotic_surplus(far, dim), _growth(near, dim) - near)


def _regimes(
    kappa: Float[Tensor, "*batch"], dim: int
) -> tuple[Bool[Tensor, "*batch"], Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Return where the asymptotic series hold, and concentrations for either formula.

    Those of the other regime are replaced, so that both formulas and their gradients are finite.
    """
    is_far = is_asymptotic(kappa, dim)
    return is_far, torch.where(is_far, 1.0, kappa), torch.where(is_far, kappa, FAR)


class _Growth(torch.autograd.Function):
    r""":math:`L_d(\kappa)`, with :math:`L_d' = \kappa\, r_d(\kappa)`.

    Differentiable any number of times.
    """

    @staticmethod
    def forward(ctx: Context, kappa: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.dim = dim
        return torch.as_tensor(_log_0f1(kappa.detach().numpy(), dim))

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, None]:
        (kappa,) = ctx.saved_tensors
        return grad * kappa * _ratio(kappa, ctx.dim), None


class _Ratio(torch.autograd.Function):
    r""":math:`r_d(\kappa) = A_d(\kappa) / \kappa`, smooth at 0.

    Its derivative is :math:`r_d' = \kappa\, r_d (r_{d+2} - r_d)`.
    """

    @staticmethod
    def forward(ctx: Context, kappa: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.dim = dim
        return torch.as_tensor(_bessel_ratio(kappa.detach().numpy(), dim))

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, None]:
        (kappa,) = ctx.saved_tensors
        ratio = _ratio(kappa, ctx.dim)
        return grad * kappa * ratio * (_ratio(kappa, ctx.dim + 2) - ratio), None


_growth: Callable[[Tensor, int], Tensor] = _Growth.apply
_ratio: Callable[[Tensor, int], Tensor] = _Ratio.apply


def _log_0f1(kappa: np.ndarray, dim: int) -> np.ndarray:
    r"""Return :math:`\log {}_0F_1(; d/2; \kappa^2/4)`, by the Bessel function or the series."""
    order = dim / 2 - 1
    out = np.zeros(kappa.shape)
    bessel = ive(order, kappa)
    small = (bessel < SMALLEST_BESSEL) | (kappa**2 < dim)
    large = kappa[~small]
    out[~small] = gammaln(order + 1) + np.log(bessel[~small]) + large - order * np.log(large / 2)
    if small.any():
        out[small] = _log_0f1_series(kappa[small], dim)
    return out


def _log_0f1_series(kappa: np.ndarray, dim: int) -> np.ndarray:
    r"""Return the log of :math:`\sum_j (\kappa^2/4)^j / (j!\, (d/2)_j)`.

    The sum ends 12 deviations and 30 terms beyond the largest term.
    """
    peak = (math.hypot(dim / 2, kappa.max()) - dim / 2) / 2
    j = np.arange(1, int(peak + 12 * math.sqrt(peak + 1)) + 30)
    with np.errstate(divide="ignore"):
        steps = 2 * np.log(kappa[:, None] / 2) - np.log(j * (dim / 2 + j - 1))
    total: np.ndarray = np.logaddexp(0.0, np.logaddexp.reduce(np.cumsum(steps, axis=-1), axis=-1))
    return total


def _bessel_ratio(kappa: np.ndarray, dim: int) -> np.ndarray:
    r"""Return :math:`A_d(\kappa) / \kappa`, a quotient of Bessel functions or of series."""
    above = ive(dim / 2, kappa)
    below = ive(dim / 2 - 1, kappa)
    small = (above < SMALLEST_BESSEL) | (kappa**2 < dim)
    quotient = above / np.where(small, 1.0, below * kappa)
    ratio: np.ndarray = np.where(
        small, np.exp(_log_0f1(kappa, dim + 2) - _log_0f1(kappa, dim)) / dim, quotient
    )
    return ratio


def log_uniform(dim: int) -> float:
    r"""Return :math:`\log C_d(0) = \log \Gamma(d/2) - \log 2 - \frac d2 \log \pi`."""
    return math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi)


def on_host(kappa: Real[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return ``kappa`` in float64 on the CPU, where the special functions are."""
    return kappa.to("cpu", torch.float64)
