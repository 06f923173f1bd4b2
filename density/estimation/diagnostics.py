r"""Diagnostics of K importance weights: error, effective samples, tail index, the bound by K.

Every function takes log-weights of shape ``(K, *batch)`` in nats and returns a value per datum:
weights of different data are never pooled, because the weights of a whole batch are products and
degenerate.

References:
    Pareto Smoothed Importance Sampling (Vehtari et al., 2024), https://arxiv.org/abs/1507.02646
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from density.estimation.pareto_fit import fit_pareto, log_difference
from univae.errors import InputError

__all__ = [
    "FEWEST_SAMPLES",
    "effective_samples",
    "group_sizes",
    "khat_is_defined",
    "khat_threshold",
    "ladder",
    "pareto_khat",
    "replicate_means",
    "standard_error",
    "unreliable",
]

SMALLEST_TAIL = 5  # points: a generalised Pareto distribution is not fitted to fewer
FEWEST_SAMPLES = 21  # whose tail has 5 points
LARGEST_KHAT = 0.7  # above it no practical number of samples suffices
NEGLIGIBLE_SHARE = 0.01  # of the sum of the weights: exceedances below it need no tail index


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
    r"""Average each of R consecutive groups of the weights, in the log domain.

    The groups are those of :func:`group_sizes`. The mean weight of a group is itself an unbiased
    weight: where weights depend on each other within groups alone, as those of a Sobol set do, the
    diagnostics of independent weights hold for the groups.

    Raises:
        InputError: ``replicates`` is less than 1.
    """
    groups = log_w.split(group_sizes(log_w.shape[0], replicates))
    return torch.stack([group.logsumexp(0) - math.log(len(group)) for group in groups])


def group_sizes(samples: int, replicates: int) -> list[int]:
    """Return the sizes of ``replicates`` groups, at most ``samples``, that differ by at most one.

    >>> group_sizes(10, 4)
    [3, 3, 2, 2]

    Raises:
        InputError: ``replicates`` is less than 1.
    """
    if replicates < 1:
        raise InputError(
            f"replicates must be at least 1; got replicates={replicates}; 1 is a single group"
        )
    count = min(replicates, samples)
    size, rest = divmod(samples, count)
    return [size + 1] * rest + [size] * (count - rest)


def effective_samples(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Return :math:`(\sum w)^2 / \sum w^2`, from 1 to K.

    It is 0 where every weight is zero, NaN where one is NaN.
    """
    w = _relative(log_w)
    total = w.sum(dim=0)
    return torch.where(total == 0, 0.0, total.square() / w.square().sum(dim=0))


def pareto_khat(log_w: Float[Tensor, "K *batch"]) -> Float[Tensor, "*batch"]:
    r"""Fit the tail index :math:`\hat k` of the M largest weights.

    M is :math:`\lceil \min(P/5, 3 \sqrt P) \rceil` for P weights above zero: a weight of zero says
    nothing of the tail. Moments of order below :math:`1/k` exist: under 0.5 the variance does.
    :func:`unreliable` compares it with a threshold for K draws. It is ``inf`` where

    - the tail is too short to judge: M < 5, hence P <= 20, or K <= 20 (:func:`khat_is_defined`);
    - a weight is infinite or NaN;
    - fewer than 5 of the tail exceed its threshold, the next smaller weight, and their excess is
      more than 1% of the sum: for example, one weight dominates it;

    and 0 where fewer than 5 exceed the threshold by less: the weights are bounded, for example
    equal.
    """
    if not khat_is_defined(log_w.shape[0]):
        return torch.full_like(log_w[0], math.inf)
    tail = _tail_size((log_w > -math.inf).sum(0))
    # descending
    top = log_w.movedim(0, -1).topk(int(tail.max()) + 1).values
    is_judged = (tail >= SMALLEST_TAIL) & top[..., 0].isfinite() & ~log_w.isnan().any(0)
    top = torch.where(is_judged.unsqueeze(-1), top, 0.0)
    threshold = top.gather(-1, tail.unsqueeze(-1))
    log_excess = log_difference(torch.maximum(top, threshold), threshold)

    is_short = (log_excess > -math.inf).sum(-1) < SMALLEST_TAIL
    log_share = log_excess.logsumexp(-1) - log_w.logsumexp(0)
    is_judged &= ~is_short | (log_share <= math.log(NEGLIGIBLE_SHARE))
    khat = torch.where(is_short, 0.0, fit_pareto(log_excess.flip(-1)))
    return torch.where(is_judged, khat, math.inf)


def khat_is_defined(samples: int) -> bool:
    """Return whether ``samples`` weights can have a k-hat: 21 have a tail of 5, fewer do not."""
    return samples >= FEWEST_SAMPLES


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


def _relative(log_w: Tensor) -> Tensor:
    """Return the weights relative to the largest; all zero where all are zero."""
    largest = log_w.amax(dim=0)
    return (log_w - torch.where(largest == -math.inf, 0.0, largest)).exp()


def _tail_size(count: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    r"""Return :math:`\lceil \min(n / 5, 3 \sqrt n) \rceil`."""
    count = count.double()
    return torch.minimum(0.2 * count, 3 * count.sqrt()).ceil().long()
