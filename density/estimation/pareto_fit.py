r"""The fit of a generalised Pareto distribution to the exceedances of a threshold.

References:
    A New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang & Stephens,
    2009)
    Pareto Smoothed Importance Sampling (Vehtari et al., 2024), https://arxiv.org/abs/1507.02646
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["fit_pareto", "log_difference"]

GRID_POINTS = 30  # of the profile likelihood, plus the root of the tail's size
PRIOR_POINTS = 10  # the weight of the prior on k, whose mean is 1/2
VANISHING_RATE = 1e-8  # relative size of b below which b / k is rounding error


def fit_pareto(log_excess: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
    r"""Fit the shape k of a generalised Pareto distribution to ascending log-exceedances.

    Exceedances of zero are left out; M is the number of the others. The profile likelihood in
    :math:`b = -(a - 1/x_M)`, in units of the first quartile :math:`x_q`, is averaged over
    :math:`m = 30 + \lfloor \sqrt N \rfloor` points, :math:`a_i = (\sqrt{m / (i - 1/2)} - 1) /
    (3 x_q)`:

    .. math:: k(a) = \frac1M \sum_j \log(1 - b x_j), \qquad
              \ell(a) = M (\log(-b / k) - k - 1), \qquad
              \hat a = \sum_i a_i\, \mathrm{softmax}(\ell)_i

    and :math:`\hat k = (M k(\hat a) + 5) / (M + 10)`, a prior worth ten points at 1/2. All of it is
    computed in the log domain. It is 0 where every exceedance is zero.
    """
    size = (log_excess > -math.inf).sum(-1, keepdim=True)
    t = log_excess - _log_unit(log_excess, size)  # log(x / unit)
    points = GRID_POINTS + math.isqrt(log_excess.shape[-1])
    i = torch.arange(1, points + 1, dtype=t.dtype, device=t.device)
    a = ((points / (i - 0.5)).sqrt() - 1) / 3
    k = _profile_shape(t, a.expand(*t.shape[:-1], points), size)

    minus_b = a - (-t[..., -1:]).exp()
    limit = size / t.exp().sum(-1, keepdim=True)  # of -b / k as b vanishes
    rate = torch.where(minus_b.abs() < VANISHING_RATE * a, limit, minus_b / k)
    posterior = (size * (rate.log() - k)).softmax(-1)
    k = _profile_shape(t, (posterior * a).sum(-1, keepdim=True), size)
    khat = (size * k + PRIOR_POINTS / 2) / (size + PRIOR_POINTS)
    return torch.where(size == 0, 0.0, khat).squeeze(-1)


def log_difference(larger: Tensor, smaller: Tensor) -> Tensor:
    r"""Return :math:`\log(e^a - e^b)`; :math:`-\infty` where the two are equal."""
    return torch.where(
        larger == smaller, -math.inf, larger + (-torch.expm1(smaller - larger)).log()
    )


def _log_unit(
    log_excess: Float[Tensor, "*batch N"], size: Int[Tensor, "*batch 1"]
) -> Float[Tensor, "*batch 1"]:
    """Return the first quartile of the last ``size`` exceedances."""
    smallest = log_excess.shape[-1] - size
    quartile = smallest + (size / 4 - 0.5).clamp(min=0).long()
    return log_excess.gather(-1, quartile.clamp(max=log_excess.shape[-1] - 1))


def _profile_shape(
    t: Float[Tensor, "*batch N"], a: Float[Tensor, "*batch m"], size: Int[Tensor, "*batch 1"]
) -> Float[Tensor, "*batch m"]:
    r"""Average :math:`\log(1 - b x) = \log((1 - x / x_M) + a x)` over the tail, for each a.

    Exceedances of zero add :math:`\log 1`.
    """
    below = log_difference(torch.zeros_like(t), t - t[..., -1:])
    values = torch.logaddexp(below.unsqueeze(-2), a.log().unsqueeze(-1) + t.unsqueeze(-2))
    return values.sum(-1) / size
