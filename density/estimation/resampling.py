r"""Bias and error of :math:`\log \bar w` from its own weights: the jackknife and the bootstrap.

Both take log-weights of shape ``(K, *batch)`` in nats, and return values per datum. The jackknife
checks the bias of :math:`O(1/K)` that the logarithm has; the bootstrap does without the first-order
formula of :func:`density.estimation.diagnostics.standard_error`. Neither sees a tail that the
weights have not shown: where k-hat is unreliable, so are they.

References:
    Debiasing Evidence Approximations: On Importance-weighted Autoencoders and Jackknife Variational
    Inference (Nowozin, 2018), https://openreview.net/forum?id=HyZoi-WRb
    An Introduction to the Bootstrap (Efron & Tibshirani, 1993)
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from density.estimation.diagnostics import replicate_means
from univae.errors import InputError

__all__ = ["Jackknife", "bootstrap_standard_error", "coefficients", "jackknife"]

CHUNK = 2**22  # resampled weights counted at once
FEWEST_RESAMPLES = 2  # of a standard deviation


class Jackknife(NamedTuple):
    """An estimate of each datum, corrected for its bias, in nats."""

    log_likelihood: Float64[Tensor, "*batch"]  # no bound, unlike the estimate that it corrects
    standard_error: Float64[Tensor, "*batch"]


def jackknife(
    log_w: Float[Tensor, "K *batch"], order: int = 1, *, replicates: int = 1
) -> Jackknife:
    r"""Return :math:`\sum_{j=0}^m c(K, m, j) \bar L_{K-j}`, whose bias is :math:`O(K^{-(m+1)})`.

    :math:`\bar L_{K-j}` is the mean estimate over the subsets of K - j weights, and c are the
    :func:`coefficients`; at order m = 1 it is :math:`K L_K - (K-1) \bar L_{K-1}`. Its standard
    error, to first order the same for every m, is

    .. math:: \sqrt{\tfrac{K-1}{K} \sum_i (L_{-i} - \bar L_{K-1})^2}

    where :math:`L_{-i}` leaves weight i out. With ``replicates``, the means of the groups take the
    place of the weights. Time grows as :math:`K^m`. The estimate is :math:`-\infty` where every
    weight is zero, and NaN where a subset is.

    Raises:
        InputError: ``order`` is not within 1 and K - 1.
    """
    log_w = _independent(log_w, replicates)
    count = log_w.shape[0]
    if not 1 <= order < count:
        raise InputError(
            f"jackknife: order must be at least 1 and less than the number of weights; got "
            f"order={order}, K={count}; draw more samples"
        )
    whole = log_w.logsumexp(0) - math.log(count)
    corrected = coefficients(count, order)[0] * whole
    for left_out, factor in enumerate(coefficients(count, order)[1:], start=1):
        corrected = corrected + factor * _mean_without(log_w, left_out)

    without = _without_one(log_w)
    error = (count - 1) / math.sqrt(count) * without.std(0)
    is_nothing = whole == -math.inf
    return Jackknife(
        torch.where(is_nothing, whole, torch.where(corrected.isinf(), math.nan, corrected)),
        torch.where(without.isinf().any(0), math.inf, error),
    )


def coefficients(count: int, order: int) -> list[float]:
    r"""Return :math:`c(K, m, j) = (-1)^j (K - j)^m / ((m - j)!\, j!)`, j from 0 to m.

    They sum to 1.

    >>> coefficients(5, 2)
    [12.5, -16.0, 4.5]
    """
    return [
        (-1) ** j * (count - j) ** order / (math.factorial(order - j) * math.factorial(j))
        for j in range(order + 1)
    ]


def bootstrap_standard_error(
    log_w: Float[Tensor, "K *batch"],
    resamples: int = 1000,
    *,
    replicates: int = 1,
    generator: torch.Generator | None = None,
) -> Float64[Tensor, "*batch"]:
    r"""Return the standard deviation of :math:`\log \bar w^*` over resamples of the K weights.

    A resample draws K weights with replacement, the same ones for all data. The relative error of
    the result is :math:`1 / \sqrt{2 \cdot \text{resamples}}` at best. With ``replicates``, the
    means of the groups are resampled. It is infinite at K = 1, and where a resample has weights
    of zero only; NaN where a weight is NaN or infinite.

    Args:
        log_w: log-weights in nats.
        resamples: their number.
        replicates: groups of the weights that are independent of each other.
        generator: of the resamples, on the CPU; by default torch's own.

    Raises:
        InputError: ``resamples`` is less than 2.
    """
    if resamples < FEWEST_RESAMPLES:
        raise InputError(
            "bootstrap_standard_error: resamples must be at least 2, for a standard deviation; "
            f"got resamples={resamples}; 1000 is usual"
        )
    log_w = _independent(log_w, replicates)
    count = log_w.shape[0]
    if count == 1:
        return torch.full_like(log_w[0], math.inf)
    largest = log_w.amax(0)
    w = (log_w - torch.where(largest == -math.inf, 0.0, largest)).exp().flatten(1)

    by_datum = w.T.contiguous()
    means = []
    for start in range(0, resamples, max(1, CHUNK // count)):
        rows = min(max(1, CHUNK // count), resamples - start)
        picks = torch.randint(count, (rows, count), generator=generator)
        ones = torch.ones(picks.shape, dtype=w.dtype)
        times = torch.zeros_like(ones).scatter_add_(1, picks, ones)
        means.append(nn.functional.linear(by_datum, times.to(w.device)))
    log_mean = torch.cat(means, 1).T.log()
    error = torch.where((log_mean == -math.inf).any(0), math.inf, log_mean.std(0))
    return error.view(log_w.shape[1:])


def _independent(log_w: Float[Tensor, "K *batch"], replicates: int) -> Float64[Tensor, "R *batch"]:
    log_w = log_w.double()
    return log_w if replicates == 1 else replicate_means(log_w, replicates)


def _without_one(log_w: Float64[Tensor, "K *batch"]) -> Float64[Tensor, "K *batch"]:
    """Return the estimates that leave each weight out, without a subtraction of sums."""
    nothing = torch.full_like(log_w[:1], -math.inf)
    before = torch.cat([nothing, log_w[:-1].logcumsumexp(0)])
    after = torch.cat([log_w[1:].flip(0).logcumsumexp(0).flip(0), nothing])
    return torch.logaddexp(before, after) - math.log(len(log_w) - 1)


def _mean_without(log_w: Float64[Tensor, "K *batch"], count: int) -> Float64[Tensor, "*batch"]:
    """Return the mean estimate over the subsets that leave ``count`` weights out."""
    if count == 1:
        return _without_one(log_w).mean(0)
    total = torch.zeros_like(log_w[0])
    for i in range(len(log_w)):
        rest = torch.cat([log_w[:i], log_w[i + 1 :]])
        total += _mean_without(rest, count - 1)
    return total / len(log_w)
