r"""The von Mises-Fisher normaliser and its derivatives in the concentration, exact in float64 at every size.

.. math:: L_d(\kappa) = \log {}_0F_1(; d/2; \kappa^2/4) = \log C_d(0) - \log C_d(\kappa), \qquad L_d' = A_d

by exponentially scaled Bessel functions, or by the series where these underflow.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gammaln, ive
from torch import Tensor

__all__ = ["growth", "log_normaliser", "log_uniform", "mean_length", "on_host"]


def log_normaliser(concentration: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\log C_d(\kappa)`, :math:`C_d(\kappa) = \kappa^{d/2-1} / ((2\pi)^{d/2} I_{d/2-1}(\kappa))`."""
    return (log_uniform(dim) - growth(on_host(concentration), dim)).to(concentration)


def mean_length(concentration: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`A_d(\kappa) = E[m \cdot z] = I_{d/2}(\kappa) / I_{d/2-1}(\kappa)`."""
    kappa = on_host(concentration)
    return (kappa * _Ratio.apply(kappa, dim)).to(concentration)


def growth(kappa: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    r"""Return :math:`L_d(\kappa)`, the log of the normaliser's fall since :math:`\kappa = 0`.

    Float64 on the host.
    """
    return _Growth.apply(kappa, dim)


class _Growth(torch.autograd.Function):
    r""":math:`L_d(\kappa)`, with :math:`L_d' = \kappa\, r_d(\kappa)`.

    Differentiable any number of times.
    """

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.dim = dim
        return torch.as_tensor(_log_0f1(kappa.detach().numpy(), dim))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (kappa,) = ctx.saved_tensors
        return grad * kappa * _Ratio.apply(kappa, ctx.dim), None


class _Ratio(torch.autograd.Function):
    r""":math:`r_d(\kappa) = A_d(\kappa) / \kappa`, with :math:`r_d' = \kappa\, r_d (r_{d+2} - r_d)`; smooth at 0."""

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.dim = dim
        return torch.as_tensor(_bessel_ratio(kappa.detach().numpy(), dim))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (kappa,) = ctx.saved_tensors
        ratio = _Ratio.apply(kappa, ctx.dim)
        return grad * kappa * ratio * (_Ratio.apply(kappa, ctx.dim + 2) - ratio), None


def _log_0f1(kappa: np.ndarray, dim: int) -> np.ndarray:
    r"""Return :math:`\log {}_0F_1(.

    D/2; \kappa^2/4)`, by the Bessel function or, where it is tiny, by the series.
    """
    order = dim / 2 - 1
    out = np.zeros(kappa.shape)
    bessel = ive(order, kappa)
    small = (bessel < 1e-290) | (kappa**2 < dim)
    large = kappa[~small]
    out[~small] = gammaln(order + 1) + np.log(bessel[~small]) + large - order * np.log(large / 2)
    if small.any():
        out[small] = _log_0f1_series(kappa[small], dim)
    return out


def _log_0f1_series(kappa: np.ndarray, dim: int) -> np.ndarray:
    r"""Sum :math:`\sum_j (\kappa^2/4)^j / (j!\, (d/2)_j)` in the log domain, well past its largest term."""
    peak = (math.hypot(dim / 2, kappa.max()) - dim / 2) / 2
    j = np.arange(1, int(peak + 12 * math.sqrt(peak + 1)) + 30)
    with np.errstate(divide="ignore"):
        steps = 2 * np.log(kappa[:, None] / 2) - np.log(j * (dim / 2 + j - 1))
    return np.logaddexp(0.0, np.logaddexp.reduce(np.cumsum(steps, axis=-1), axis=-1))


def _bessel_ratio(kappa: np.ndarray, dim: int) -> np.ndarray:
    r"""Return :math:`A_d(\kappa) / \kappa`, a quotient of Bessel functions or, where these are tiny, of series."""
    above = ive(dim / 2, kappa)
    below = ive(dim / 2 - 1, kappa)
    small = (above < 1e-290) | (kappa**2 < dim)
    quotient = above / np.where(small, 1.0, below * kappa)
    return np.where(small, np.exp(_log_0f1(kappa, dim + 2) - _log_0f1(kappa, dim)) / dim, quotient)


def log_uniform(dim: int) -> float:
    r"""Return :math:`\log C_d(0) = \log \Gamma(d/2) - \log 2 - \frac d2 \log \pi`."""
    return math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi)


def on_host(kappa: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The special functions live on the host, in float64."""
    return kappa.to("cpu", torch.float64)
