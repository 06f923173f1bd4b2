r"""Likelihood estimates that decide for themselves how to sample, and say which to trust.

Importance sampling by :class:`density.estimation.auto_proposal.Auto` comes first. An estimate is
reliable if

- its tail index is within the threshold for its number of samples,
- its standard error is as small as asked for,
- no climb from the prior ends where the proposal is too thin for that number of samples
  (:mod:`density.estimation.missed_modes`).

The others are estimated again, first from eight times as many new draws, then, where that is not
enough, by annealed importance sampling from a mixture of the fitted proposal and the prior, in two
independent halves, and this estimate takes the place of the first. It is reliable if both halves
agree within two standard errors, half of the chains are effective, and the estimate before, in
expectation a lower bound, does not exceed it by more than two standard errors. Of C chains no
error below :math:`1 / \sqrt C` is claimed: C weights that are equal say little about rare, larger
ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor
from torch.distributions import Distribution

from density.estimation.adaptive import estimate_until
from density.estimation.annealed import Annealed, annealed
from density.estimation.annealing_path import is_flat
from density.estimation.auto_proposal import Auto, Decision
from density.estimation.batches import some_rows
from density.estimation.diagnostics import khat_threshold
from density.estimation.fitted import Fitted
from density.estimation.importance import Estimate, estimate
from density.estimation.missed_modes import is_covered, largest_log_weight
from density.estimation.moved import moved_alike
from density.estimation.proposal import Proposal
from density.model import LatentModel, as_data, check_gradients
from univae.errors import InputError

__all__ = ["AutoEstimate", "estimate_auto"]

REPEAT = 8  # times as many draws, before annealing
HALVES = 2
AGREEMENT = 2.0  # standard errors of a difference
EFFECTIVE_SHARE = 0.5  # of the chains


class AutoEstimate(NamedTuple):
    """An estimate of every datum, how it came about, and whether to trust it."""

    # of annealed data: elbo and khat are those of the weights before
    estimate: Estimate
    samples: Int[Tensor, "B"]  # importance samples
    annealed: Bool[Tensor, "B"]  # the estimate is one of annealed importance sampling
    reliable: Bool[Tensor, "B"]
    decision: Decision

    def __repr__(self) -> str:
        """Return the estimate, and how many data are reliable and annealed, in one line."""
        return (
            f"AutoEstimate({self.estimate!r}, reliable {int(self.reliable.sum())}, "
            f"annealed {int(self.annealed.sum())}, at most {int(self.samples.max())} samples)"
        )


@torch.no_grad()
def estimate_auto(
    model: LatentModel,
    x: Tensor,
    *,
    samples: int = 128,
    standard_error: float | None = None,
    limit: int = 8192,
    chunk: int | None = None,
    fallback_steps: int = 30,
    fallback_chains: int = 32,
) -> AutoEstimate:
    r"""Estimate :math:`\log p(x)` of each datum from at least ``samples`` draws, and judge it.

    With ``standard_error``, in nats, the draws of a datum double up to ``limit`` until its error is
    as small. Data whose estimate is not reliable are annealed over ``fallback_steps`` by
    ``fallback_chains`` chains, where the latents fill :math:`\mathbb{R}^d`; 0 chains: they are
    only flagged. Call ``model.eval()`` first.

    Raises:
        InputError: inference mode is on; ``samples`` is not within 1 and ``limit``; the
            ``standard_error`` is not positive; or the chains are neither 0 nor 2 or more.
    """
    check_gradients("estimate_auto")
    x = as_data(x, "estimate_auto")
    _check_chains(fallback_chains)
    proposal, decision = Auto().fit(model, x, model.posterior(x), chunk)
    error = math.inf if standard_error is None else standard_error
    limit = samples if standard_error is None else limit
    adaptive = estimate_until(
        model, x, error, start=samples, limit=limit, proposal=proposal, chunk=chunk
    )
    log_weight = torch.full_like(adaptive.estimate.elbo, -math.inf)
    fitted = None
    if isinstance(proposal, Fitted) and is_flat(model.prior()):
        fitted = proposal
        log_weight = largest_log_weight(model, x, fitted, decision)
    sampling = _Sampling(model, x, proposal, log_weight, error, chunk)
    result = sampling.judged(adaptive.estimate, adaptive.samples, decision)
    if not result.reliable.all():
        result = sampling.repeated(result, limit if standard_error else REPEAT * samples)
    if fallback_chains == 0 or fitted is None or result.reliable.all():
        return result
    rows = ~result.reliable
    data = some_rows(x, rows)
    refitted = _WithPosterior(model, fitted)
    chains = fallback_chains // HALVES
    halves = []
    for _ in range(HALVES):
        half = annealed(refitted, data, fallback_steps, chains, start="mixture")
        halves.append(Annealed(*[values[: int(rows.sum())] for values in half]))
    return _with_annealed(result, halves, chains, error)


def _check_chains(chains: int) -> None:
    if chains != 0 and chains < HALVES:
        raise InputError(
            "estimate_auto: fallback_chains must be 0 or at least 2; "
            f"got fallback_chains={chains}; 0 flags what is unreliable and does not anneal it"
        )


@dataclass(frozen=True)
class _Sampling:
    """A fitted proposal of one batch of data, and what judges its estimates."""

    model: LatentModel
    x: Tensor
    proposal: Proposal
    log_weight: Float64[Tensor, "B"]  # of the search for missed modes
    error: float  # largest standard error
    chunk: int | None

    def judged(
        self, estimate: Estimate, samples: Int[Tensor, "B"], decision: Decision
    ) -> AutoEstimate:
        """Return the estimate with its judgement: by tail index, error and missed modes."""
        thresholds = [khat_threshold(count) for count in samples.tolist()]
        threshold = torch.tensor(thresholds, dtype=torch.float64, device=samples.device)
        reliable = (estimate.khat <= threshold) & (estimate.standard_error <= self.error)
        reliable &= estimate.log_likelihood.isfinite()
        reliable &= is_covered(self.log_weight, samples)
        return AutoEstimate(estimate, samples, torch.zeros_like(reliable), reliable, decision)

    def repeated(self, result: AutoEstimate, limit: int) -> AutoEstimate:
        """Return the result with data that are not reliable estimated from more, new draws.

        They are :data:`REPEAT` times as many, and at most ``limit``.
        """
        estimates = result.estimate
        samples = result.samples
        for count in result.samples[~result.reliable].unique().tolist():
            more = min(limit, REPEAT * count)
            if more <= count:
                continue
            rows = ~result.reliable & (result.samples == count)
            data = some_rows(self.x, rows)
            again = estimate(self.model, data, more, proposal=self.proposal, chunk=self.chunk)
            merged = [
                values.masked_scatter(rows, new_values[: int(rows.sum())])
                for values, new_values in zip(estimates, again, strict=True)
            ]
            estimates = Estimate(*merged)
            samples = samples.masked_fill(rows, more)
        return self.judged(estimates, samples, result.decision)


@dataclass(frozen=True)
class _WithPosterior:
    """A model with the posterior of a fitted proposal."""

    model: LatentModel
    fitted: Fitted

    def prior(self) -> Distribution:
        return self.model.prior()

    def posterior(self, x: Tensor) -> Distribution:
        q = self.model.posterior(x)
        return moved_alike(q, self.fitted.posterior, self.fitted.rows_of(x))

    def likelihood(self, z: Tensor) -> Distribution:
        return self.model.likelihood(z)


def _with_annealed(
    result: AutoEstimate, halves: Sequence[Annealed], chains: int, error: float
) -> AutoEstimate:
    """Return the result with the mean of both halves, of so many chains, where it is unreliable."""
    rows = ~result.reliable
    log_w = torch.stack([half.log_likelihood for half in halves])
    errors = torch.stack([half.standard_error for half in halves])
    log_likelihood = log_w.logsumexp(0) - math.log(HALVES)
    standard_error = (errors * log_w.softmax(0)).square().sum(0).sqrt()
    standard_error = standard_error.clamp_min((HALVES * chains) ** -0.5)
    effective = torch.stack([half.effective_chains for half in halves]).sum(0)

    first = result.estimate
    is_reliable = _agree(log_w[0] - log_w[1], errors.square().sum(0).sqrt())
    is_reliable &= effective >= EFFECTIVE_SHARE * HALVES * chains
    is_reliable &= first.log_likelihood[rows] <= log_likelihood + AGREEMENT * standard_error
    is_reliable &= (standard_error <= error) & log_likelihood.isfinite()

    def replaced(values: Tensor, new_values: Tensor) -> Tensor:
        return values.masked_scatter(rows, new_values.to(values.dtype))

    estimate = first._replace(
        log_likelihood=replaced(first.log_likelihood, log_likelihood),
        standard_error=replaced(first.standard_error, standard_error),
        effective_samples=replaced(first.effective_samples, effective),
    )
    reliable = replaced(result.reliable, is_reliable)
    return result._replace(estimate=estimate, annealed=rows, reliable=reliable)


def _agree(difference: Tensor, error: Tensor) -> Bool[Tensor, "B"]:
    return difference.abs() <= AGREEMENT * error
