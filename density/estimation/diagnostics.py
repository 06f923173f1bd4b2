r"""Can K importance weights be trusted? Error, effective samples, tail index, and how the bound moves with K.

Every function reads log-weights of shape ``(K, *batch)`` in nats and answers per datum: weights of
different data are never pooled, because the weights of a whole batch are products and degenerate.

References:
    Pareto Smoothed Importance Sampling (Vehtari et al., 2024), https://arxiv.org/abs/1507.02646 A
    New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang & Stephens,
    2009) Debiasing Evidence Approximations: On Importance-Weighted Autoencoders and Jackknife
    Variational Inference (Nowozin, 2018), https://openreview.net/forum?id=HyZoi-WRb
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from univae.errors import InputError

__all__ = [
    "bootstrap_standard_error",
    "effective_samples",
    "fit_pareto",
    "jackknife",
    "khat_threshold",
    "ladder",
    "pareto_khat",
    "replicate_means",
    "standard_error",
    "unreliable",
]

SMALLEST_TAIL = 5  # a generalised Pareto law is not fitted to fewer points
LARGEST_KHAT = 0.7  # above it no practical number of samples suffices


def standard_error(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`\mathrm{sd}(w) / (\sqrt K\, \bar w)`, the first-order error of :math:`\log \bar w`.

    It is infinite where it cannot be known: at K = 1, and where every weight is zero; NaN where a
    weight is NaN or infinite.
    """
    count = log_w.shape[0]
    w = _relative(log_w)
    if count == 1:
        return torch.full_like(log_w[0], math.inf)
    error = w.std(dim=0) / (math.sqrt(count) * w.mean(dim=0))
    return torch.where(w.sum(dim=0) == 0, math.inf, error)


def bootstrap_standard_error(
    log_w: Float[Tensor, "K *batch"], resamples: int = 200, generator: torch.Generator | None = None
) -> Float[Tensor, "*batch"]:
    r"""Return the spread of :math:`\log \bar w` over ``resamples`` draws of K of the weights with replacement.

    Unlike :func:`standard_error` it sees the curvature of the logarithm. All data share the
    resampled rows, so every resample is one row of a matrix of counts. It is infinite where it
    cannot be known: at K = 1, and where a resample holds only weights of zero.

    References:
        An Introduction to the Bootstrap (Efron & Tibshirani, 1993), chapter 6
    """
    count = log_w.shape[0]
    w = _relative(log_w).flatten(1)
    if count == 1:
        return torch.full_like(log_w[0], math.inf)
    rows = torch.randint(count, (resamples, count), generator=generator, device=w.device)
    times = w.new_zeros(resamples, count).scatter_add_(1, rows, w.new_ones(()).expand_as(rows))
    means = times @ w
    error = means.log().std(dim=0)
    return torch.where((means == 0).any(0), math.inf, error).view_as(log_w[0])


def replicate_means(log_w: Float[Tensor, "K *batch"], replicates: int) -> Float[Tensor, "R *batch"]:
    r"""Average each of R consecutive groups of :math:`K / R` weights, in the log domain.

    The mean weight of a group is itself an unbiased weight: where weights depend on each other
    within groups alone, as those of a Sobol set do, what is said here of independent weights holds
    of the groups.
    """
    if replicates < 1 or log_w.shape[0] % replicates:
        raise InputError(
            f"replicate_means: needs K a multiple of the replicates; got K={log_w.shape[0]}, replicates={replicates}; "
            f"draw a multiple"
        )
    size = log_w.shape[0] // replicates
    return log_w.unflatten(0, (replicates, size)).logsumexp(1) - math.log(size)


def effective_samples(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`(\sum w)^2 / \sum w^2`, from 1 to K.

    0 where every weight is zero, NaN where one is no number.
    """
    w = _relative(log_w)
    total = w.sum(dim=0)
    return torch.where(total == 0, 0.0, total.square() / w.square().sum(dim=0))


def pareto_khat(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Fit the tail index :math:`\hat k` of the :math:`M = \lceil \min(K/5, 3 \sqrt K) \rceil` largest weights.

    Moments of order below :math:`1/k` exist: under 0.5 the variance does. :func:`unreliable`
    compares it with what K draws can bear. It is ``inf`` where

    - the tail is too short to judge (M < 5, so K <= 20),
    - every weight is zero, or one is infinite or NaN,
    - fewer than 5 of the tail exceed its threshold and the effective samples are fewer than 5 too:
      one weight holds
      everything, say;

    and 0 where the M + 1 largest weights are equal, hence bounded.
    """
    count = log_w.shape[0]
    tail = math.ceil(min(0.2 * count, 3 * math.sqrt(count)))
    if tail < SMALLEST_TAIL:
        return torch.full_like(log_w[0], math.inf)
    # ascending; the first is the threshold
    top = log_w.movedim(0, -1).topk(tail + 1).values.flip(-1)
    largest = top[..., -1]
    constant = (top[..., 0] == largest) & largest.isfinite()
    exceeding = (top[..., 1:] > top[..., :1]).sum(-1)
    few = (exceeding < SMALLEST_TAIL) & (effective_samples(log_w) < SMALLEST_TAIL) & ~constant
    judged = largest.isfinite() & ~few & ~log_w.isnan().any(0)
    top = torch.where(judged.unsqueeze(-1), top, 0.0)
    khat = fit_pareto(_log_difference(top[..., 1:], top[..., :1]))
    return torch.where(judged, khat, math.inf)


def khat_threshold(samples: int) -> float:
    r"""Return :math:`\min(0.7, 1 - 1 / \log_{10} K)`, the largest :math:`\hat k` that K draws can bear.

    It is 0.5 at 100 draws and 0.7 from 2155 on; :math:`-\infty` at one.

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
    r"""Return where :math:`\hat k` is above :func:`khat_threshold`, or is no finite number.

    Without ``samples`` the threshold is 0.7, that of infinitely many.
    """
    threshold = LARGEST_KHAT if samples is None else khat_threshold(samples)
    return ~(khat <= threshold)


def fit_pareto(log_excess: Float[Tensor, "*batch M"]) -> Float[Tensor, "*batch"]:
    r"""Fit the shape k of a generalised Pareto law to ascending log-exceedances, in the log domain throughout.

    The profile likelihood in :math:`b = -(a - 1/x_M)`, in units of the first quartile :math:`x_q`,
    is averaged over :math:`m = 30 + \lfloor \sqrt M \rfloor` points, :math:`a_i = (\sqrt{m / (i -
    1/2)} - 1) / (3 x_q)`:

    .. math:: k(a) = \frac1M \sum_j \log(1 - b x_j), \qquad \ell(a) = M (\log(-b / k) - k - 1), \qquad
              \hat a = \sum_i a_i\, \mathrm{softmax}(\ell)_i

    and :math:`\hat k = (M k(\hat a) + 5) / (M + 10)`, a prior worth ten points at 1/2.
    """
    size = log_excess.shape[-1]
    quartile = log_excess[..., int(size / 4 - 0.5)]
    largest = log_excess[..., -1]
    # of those above zero
    lowest = torch.where(log_excess.isinf(), largest.unsqueeze(-1), log_excess).amin(-1)
    unit = torch.where(quartile.isinf(), lowest, quartile)
    constant = largest == -math.inf
    t = log_excess - unit.unsqueeze(-1)  # log(x / unit)

    points = 30 + math.isqrt(size)
    i = torch.arange(1, points + 1, dtype=t.dtype, device=t.device)
    a = ((points / (i - 0.5)).sqrt() - 1) / 3
    k = _profile_shape(t, a.expand(*t.shape[:-1], points))
    minus_b = a - (-t[..., -1:]).exp()
    limit = 1 / t.exp().mean(-1, keepdim=True)  # of -b / k as b vanishes, where both are rounding
    rate = torch.where(minus_b.abs() < 1e-8 * a, limit, minus_b / k)
    posterior = (size * (rate.log() - k)).softmax(-1)
    k = _profile_shape(t, (posterior * a).sum(-1, keepdim=True)).squeeze(-1)
    return torch.where(constant, 0.0, (size * k + 5) / (size + 10))


def ladder(log_w: Float[Tensor, "K *batch"], sizes: Sequence[int]) -> Float[Tensor, "sizes *batch"]:
    r"""Climb :math:`L_k = E[\log \frac1k \sum_{j \le k} w_j]`, averaged over disjoint subsets of the same weights.

    Where each size divides the next and the last divides K, the rungs never descend. The ``K mod
    k`` weights that fill no subset are left out.
    """
    if not all(1 <= size <= log_w.shape[0] for size in sizes):
        raise InputError(
            f"ladder: sizes must lie between 1 and K={log_w.shape[0]}; got {list(sizes)}; draw more samples"
        )
    rungs = [
        log_w[: len(log_w) // k * k].unflatten(0, (-1, k)).logsumexp(1).mean(0) - math.log(k)
        for k in sizes
    ]
    return torch.stack(rungs)


def jackknife(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`K L_K - (K-1) \bar L_{K-1}`: bias :math:`O(K^{-2})`, no bound any more, and more variance.

    A check on the bias of the estimate rather than a replacement. :math:`\bar L_{K-1}` averages
    over the K subsets that leave one weight out; their sums are built from both sides, without
    subtraction. It is :math:`-\infty` where every weight is zero, and NaN where a single one is
    not: without it nothing is left to estimate from.
    """
    count = log_w.shape[0]
    if count < 2:
        raise InputError(
            f"jackknife: leaves one weight out of at least 2; got K={count}; draw more samples"
        )
    none = torch.full_like(log_w[:1], -math.inf)
    before = torch.cat([none, log_w[:-1].logcumsumexp(0)])
    after = torch.cat([log_w[1:].flip(0).logcumsumexp(0).flip(0), none])
    without = torch.logaddexp(before, after).mean(0) - math.log(count - 1)
    whole = log_w.logsumexp(0) - math.log(count)
    corrected = count * whole - (count - 1) * without
    undefined = torch.where(whole == -math.inf, whole, math.nan)
    return torch.where(without == -math.inf, undefined, corrected)


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
