r"""Diagnostics of K importance weights: error, effective samples, tail index, the bound by K.

Every function takes log-weights of shape ``(K, *batch)`` in nats and returns a value per datum:
weights of different data are never pooled, because the weights of a whole batch are products and
degenerate.

References:
    Pareto Smoothed Importance Sampling (Vehtari et al., 2024), https://arxiv.org/abs/1507.02646
    A New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang & Stephens,
    2009)
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from univae.errors import InputError

__all__ = [
    "effective_samples",
    "fit_pareto",
    "khat_threshold",
    "ladder",
    "pareto_khat",
    "replicate_means",
    "standard_error",
    "unreliable",
]

SMALLEST_TAIL = 5  # points: a generalised Pareto distribution is not fitted to fewer
LARGEST_KHAT = 0.7  # above it no practical number of samples suffices
GRID_POINTS = 30  # of the profile likelihood, plus the root of the tail's size
PRIOR_POINTS = 10  # the weight of the prior on k, whose mean is 1/2
VANISHING_RATE = 1e-8  # relative size of b below which b / k is rounding error


def standard_error(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\mathrm{sd}(w) / (\sqrt K\, \bar w)`, the error of :math:`\log \bar w`.

    It is of first order. It is infinite where it is undefined, at K = 1 and where every weight is
    zero; NaN where a weight is NaN or infinite.
    """
    count = log_w.shape[0]
    w = _relative(log_w)
    if count == 1:
        return torch.full_like(log_w[0], math.inf)
    error = w.std(dim=0) / (math.sqrt(count) * w.mean(dim=0))
    return torch.where(w.sum(dim=0) == 0, math.inf, error)


def replicate_means(log_w: Float[Tensor, "K *batch"], replicates: int) -> Float[Tensor, "R *batch"]:
    r"""Average each of R consecutive groups of :math:`K / R` weights, in the log domain.

    The mean weight of a group is itself an unbiased weight: where weights depend on each other
    within groups alone, as those of a Sobol set do, the diagnostics of independent weights hold for
    the groups.

    Raises:
        InputError: K is no multiple of ``replicates``.
    """
    if replicates < 1 or log_w.shape[0] % replicates:
        raise InputError(
            "replicate_means: needs K a multiple of the replicates; "
            f"got K={log_w.shape[0]}, replicates={replicates}; draw a multiple"
        )
    size = log_w.shape[0] // replicates
    grouped: Tensor = log_w.unflatten(0, (replicates, size))
    return grouped.logsumexp(1) - math.log(size)


def effective_samples(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`(\sum w)^2 / \sum w^2`, from 1 to K.

    It is 0 where every weight is zero, NaN where one is NaN.
    """
    w = _relative(log_w)
    total = w.sum(dim=0)
    return torch.where(total == 0, 0.0, total.square() / w.square().sum(dim=0))


def pareto_khat(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Fit the tail index :math:`\hat k` of the M largest weights.

    M is :math:`\lceil \min(K/5, 3 \sqrt K) \rceil`. Moments of order below :math:`1/k` exist:
    under 0.5 the variance does. :func:`unreliable` compares it with a threshold for K draws. It is
    ``inf`` where

    - the tail is too short to judge (M < 5, so K <= 20),
    - every weight is zero, or one is infinite or NaN,
    - fewer than 5 of the tail exceed its threshold and the effective samples are fewer than 5 too:
      for example, one weight dominates the sum;

    and 0 where the M + 1 largest weights are equal, hence bounded.
    """
    count = log_w.shape[0]
    tail = math.ceil(min(0.2 * count, 3 * math.sqrt(count)))
    if tail < SMALLEST_TAIL:
        return torch.full_like(log_w[0], math.inf)
    # ascending; the first is the threshold
    top = log_w.movedim(0, -1).topk(tail + 1).values.flip(-1)
    threshold = top[..., :1]
    largest = top[..., -1]
    is_constant = (top[..., 0] == largest) & largest.isfinite()
    exceeding = (top[..., 1:] > threshold).sum(-1)
    is_short = (exceeding < SMALLEST_TAIL) & (effective_samples(log_w) < SMALLEST_TAIL)
    is_short &= ~is_constant
    is_judged = largest.isfinite() & ~is_short & ~log_w.isnan().any(0)

    top = torch.where(is_judged.unsqueeze(-1), top, 0.0)
    khat = fit_pareto(_log_difference(top[..., 1:], top[..., :1]))
    return torch.where(is_judged, khat, math.inf)


def khat_threshold(samples: int) -> float:
    r"""Return :math:`\min(0.7, 1 - 1 / \log_{10} K)`, the largest :math:`\hat k` for K draws.

    It is 0.5 at 100 draws and 0.7 from 2155 on; :math:`-\infty` at one.

    Raises:
        InputError: ``samples`` is less than 1.

    References:
        Pareto Smoothed Importance Sampling (Vehtari et al., 2024), section 3.2.4,
        https://arxiv.org/abs/1507.02646
    """
    if samples < 1:
        raise InputError(f"khat_threshold: samples must be at least 1; got samples={samples}")
    if samples == 1:
        return -math.inf
    return min(LARGEST_KHAT, 1 - 1 / math.log10(samples))


def unreliable(khat: Float[Tensor, "*batch"], samples: int | None = None) -> Bool[Tensor, "*batch"]:
    r"""Return where :math:`\hat k` is above :func:`khat_threshold`, or is infinite or NaN.

    Without ``samples`` the threshold is 0.7, that of infinitely many.
    """
    threshold = LARGEST_KHAT if samples is None else khat_threshold(samples)
    return ~(khat <= threshold)


def fit_pareto(log_excess: Float[Tensor, "*batch M"]) -> Float[Tensor, "*batch"]:
    r"""Fit the shape k of a generalised Pareto distribution to ascending log-exceedances.

    The profile likelihood in :math:`b = -(a - 1/x_M)`, in units of the first quartile :math:`x_q`,
    is averaged over :math:`m = 30 + \lfloor \sqrt M \rfloor` points, :math:`a_i = (\sqrt{m / (i -
    1/2)} - 1) / (3 x_q)`:

    .. math:: k(a) = \frac1M \sum_j \log(1 - b x_j), \qquad
              \ell(a) = M (\log(-b / k) - k - 1), \qquad
              \hat a = \sum_i a_i\, \mathrm{softmax}(\ell)_i

    and :math:`\hat k = (M k(\hat a) + 5) / (M + 10)`, a prior worth ten points at 1/2. All of it is
    computed in the log domain.
    """
    size = log_excess.shape[-1]
    largest = log_excess[..., -1]
    t = log_excess - _log_unit(log_excess).unsqueeze(-1)  # log(x / unit)
    points = GRID_POINTS + math.isqrt(size)
    i = torch.arange(1, points + 1, dtype=t.dtype, device=t.device)
    a = ((points / (i - 0.5)).sqrt() - 1) / 3
    k = _profile_shape(t, a.expand(*t.shape[:-1], points))

    minus_b = a - (-t[..., -1:]).exp()
    limit = 1 / t.exp().mean(-1, keepdim=True)  # of -b / k as b vanishes
    rate = torch.where(minus_b.abs() < VANISHING_RATE * a, limit, minus_b / k)
    posterior = (size * (rate.log() - k)).softmax(-1)
    k = _profile_shape(t, (posterior * a).sum(-1, keepdim=True)).squeeze(-1)
    khat = (size * k + PRIOR_POINTS / 2) / (size + PRIOR_POINTS)
    return torch.where(largest == -math.inf, 0.0, khat)


def ladder(log_w: Float[Tensor, "K *batch"], sizes: Sequence[int]) -> Float[Tensor, "sizes *batch"]:
    r"""Return the estimates from fewer samples, :math:`L_k = E[\log \frac1k \sum_{j \le k} w_j]`.

    The mean is over disjoint subsets of the weights; the last ``K mod k`` weights are
    not used. Where each size divides the next and the last divides K, the estimates never
    descend.

    Raises:
        InputError: a size is not between 1 and K.
    """
    count = log_w.shape[0]
    if not all(1 <= size <= count for size in sizes):
        raise InputError(
            f"ladder: sizes must lie between 1 and K={count}; got {list(sizes)}; draw more samples"
        )
    estimates = []
    for k in sizes:
        subsets = log_w[: count // k * k].unflatten(0, (-1, k))
        estimates.append(subsets.logsumexp(1).mean(0) - math.log(k))
    return torch.stack(estimates)


def _log_unit(log_excess: Float[Tensor, "*batch M"]) -> Float[Tensor, "*batch"]:
    """Return the first quartile; where that is zero, the smallest exceedance above zero."""
    quartile = log_excess[..., int(log_excess.shape[-1] / 4 - 0.5)]
    largest = log_excess[..., -1:]
    smallest = torch.where(log_excess.isinf(), largest, log_excess).amin(-1)
    return torch.where(quartile.isinf(), smallest, quartile)


def _relative(log_w: Tensor) -> Tensor:
    """Return the weights relative to the largest; all zero where all are zero."""
    largest = log_w.amax(dim=0)
    return (log_w - torch.where(largest == -math.inf, 0.0, largest)).exp()


def _log_difference(larger: Tensor, smaller: Tensor) -> Tensor:
    r"""Return :math:`\log(e^a - e^b)`; :math:`-\infty` where the two are equal."""
    return torch.where(
        larger == smaller, -math.inf, larger + (-torch.expm1(smaller - larger)).log()
    )


def _profile_shape(
    t: Float[Tensor, "*batch M"], a: Float[Tensor, "*batch m"]
) -> Float[Tensor, "*batch m"]:
    r"""Average :math:`\log(1 - b x) = \log((1 - x / x_M) + a x)` over the tail, for each a."""
    below = _log_difference(torch.zeros_like(t), t - t[..., -1:])
    return torch.logaddexp(below.unsqueeze(-2), a.log().unsqueeze(-1) + t.unsqueeze(-2)).mean(-1)
