"""What a validation measures of any latent-variable model: likelihood, bound, use of the latent."""

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from density.estimation.collapse import active_units, mutual_information, shuffled_gap, verdict
from density.estimation.diagnostics import khat_threshold, unreliable
from density.estimation.importance import Estimate, estimate
from density.model import LatentModel
from experiments.evaluation.measured import BoundMeans, LatentUse, LikelihoodMeans, Measured
from univae.checkpoint import JsonObject

__all__ = ["Bound", "codes", "measure", "of_training"]

COMPARED = 64  # rows of the mutual information, where the caller chooses none
PAIRS = 1024  # pairs of row and latent evaluated at once for the mutual information
GAP_ROWS = 64  # rows evaluated at once for the shuffled gap
FEWEST = 2  # rows that the use of the latent needs
NAMED = 5  # rows that a note names before it ends in ...


@runtime_checkable
class Bound(Protocol):
    """The two sides of an ELBO, in nats; :class:`univae.vae.Elbo` is one."""

    @property
    def log_likelihood(self) -> Tensor:
        """(B,): log p(x | z)."""

    @property
    def kl(self) -> Tensor:
        """(B, S): per row and latent layer."""


@torch.no_grad()
def measure(
    model: LatentModel,
    batches: Sequence[Tensor],
    samples: int,
    bound: Callable[[Tensor], Bound],
    compared: Tensor | None = None,
    chunk: int | None = None,
    names: Sequence[int] | np.ndarray | None = None,
) -> Measured:
    """Return means per row over batches of rows, for a model in evaluation mode.

    The likelihood is importance-sampled; a k-hat above ``khat_threshold``, or no number (as with
    few samples), makes a row's estimate a loose lower bound and its Monte Carlo error unreliable.
    Units are active by the variance of their :func:`codes`.

    Args:
        model: prior, posterior and likelihood.
        batches: rows, as the model takes them.
        samples: importance samples per row.
        bound: returns the two sides of the ELBO of a batch from one sample of the posterior.
        compared: the rows of mutual information, all pairs of them, and of the shuffled gap; by
            default the first 64 of a batch.
        chunk: importance samples decoded at once.
        names: the numbers of the rows for ``not_finite``; by default from 0.
    """
    estimates = [estimate(model, batch, samples, chunk=chunk) for batch in batches]
    bounds = [bound(batch) for batch in batches]
    finite = [_finite(*pair) for pair in zip(estimates, bounds, strict=True)]
    kept = torch.cat(finite)
    not_finite = _not_finite(kept, names)
    notes = _not_finite_notes(not_finite, len(kept))
    if not kept.any():
        return _without_means(samples, len(kept), not_finite, notes)

    likelihood = _likelihood_means(estimates, kept, samples)
    bound_means = _bound_means(bounds, kept)
    if not_finite:
        pairs = zip(batches, finite, strict=True)
        batches = [batch[rows] for batch, rows in pairs if rows.any()]
    if compared is None:
        compared = next((batch for batch in batches if len(batch) > 1), batches[0])[:COMPARED]
    modes = torch.cat([codes(model, batch) for batch in batches])
    use = _latent_use(model, compared, modes)

    count = int(kept.sum())
    return Measured(likelihood, bound_means, use, samples, count, not_finite, notes)


def codes(model: LatentModel, x: Tensor) -> Tensor:
    """Return the mode of the posterior, each layer's computed from the modes of earlier layers."""
    q = model.posterior(x)
    return q.modes() if hasattr(q, "modes") else q.mode


def of_training(result: JsonObject) -> JsonObject:
    """Return the result of a training command: its likelihood is named as the validation's."""
    renamed = {
        "nll_nats": "validation_nll_nats",
        "nll_standard_error": "validation_nll_standard_error",
    }
    return {renamed.get(name, name): value for name, value in result.items() if name != "selection"}


def _likelihood_means(estimates: Sequence[Estimate], kept: Tensor, samples: int) -> LikelihoodMeans:
    log_likelihood = torch.cat([each.log_likelihood for each in estimates])[kept]
    error = torch.cat([each.standard_error for each in estimates])[kept]
    effective = torch.cat([each.effective_samples for each in estimates])[kept]
    khat = torch.cat([each.khat for each in estimates])[kept]
    count = len(log_likelihood)
    over_rows = (log_likelihood.std() / math.sqrt(count)).item() if count > 1 else None

    return LikelihoodMeans(
        nll=-log_likelihood.mean().item(),
        standard_error=over_rows,
        monte_carlo_error=(error.square().sum().sqrt() / count).item(),
        effective_samples_median=effective.median().item(),
        khat_above_07=unreliable(khat).double().mean().item(),
        khat_unreliable=unreliable(khat, samples).double().mean().item(),
        khat_threshold=khat_threshold(samples),
    )


def _bound_means(bounds: Sequence[Bound], kept: Tensor) -> BoundMeans:
    kl = torch.cat([each.kl for each in bounds])[kept].mean(0)
    log_likelihood = torch.cat([each.log_likelihood for each in bounds])[kept]
    reconstruction = -log_likelihood.mean().item()
    return BoundMeans(-reconstruction - kl.sum().item(), reconstruction, kl.tolist())


def _latent_use(model: LatentModel, compared: Tensor, modes: Tensor) -> LatentUse:
    if min(len(compared), len(modes)) < FEWEST:
        words = (
            "the use of the latent cannot be judged by one held-out datum: it takes two at least"
        )
        return LatentUse(None, modes[:1].numel(), None, None, None, None, words)

    information = mutual_information(model, compared, rows=PAIRS)
    gap = shuffled_gap(model, compared, rows=GAP_ROWS)
    units = active_units(modes)
    # a variance of NaN exceeds no threshold, so the count would be too low
    known = bool(units.variances.isfinite().all())
    return LatentUse(
        active_units=units.count if known else None,
        units=units.variances.numel(),
        mutual_information=information.nats,
        mutual_information_ceiling=information.ceiling,
        shuffled_gap=gap.nats,
        shuffled_gap_standard_error=gap.standard_error,
        verdict=verdict(information, gap),
    )


def _finite(scores: Estimate, bound: Bound) -> Tensor:
    """Return which rows of a batch have a finite estimate and a finite bound, (B,)."""
    return (
        scores.log_likelihood.isfinite()
        & bound.log_likelihood.isfinite()
        & bound.kl.isfinite().all(-1)
    )


def _not_finite(kept: Tensor, names: Sequence[int] | np.ndarray | None) -> list[int]:
    """Return the names of the rows left out, ascending."""
    rows = (~kept).nonzero().squeeze(1).tolist()
    if names is None:
        return rows
    return sorted(int(names[row]) for row in rows)


def _not_finite_notes(rows: Sequence[int], count: int) -> list[str]:
    if not rows:
        return []
    listed = ", ".join(map(str, rows[:NAMED])) + (", ..." if len(rows) > NAMED else "")
    noun = "row" if len(rows) == 1 else "rows"
    subject = f"{len(rows)} of {count} rows not finite ({noun} {listed})"
    return [f"validation: {subject}, left out of its means"]


def _without_means(
    samples: int, count: int, not_finite: Sequence[int], notes: Sequence[str]
) -> Measured:
    """Return a result without a finite row: every mean is NaN, and every k-hat unreliable."""
    nan = math.nan
    likelihood = LikelihoodMeans(nan, nan, nan, nan, 1.0, 1.0, khat_threshold(samples))
    words = "the use of the latent cannot be judged: no row is finite"
    use = LatentUse(None, None, nan, nan, nan, nan, words)
    bound = BoundMeans(nan, nan, None)
    return Measured(likelihood, bound, use, samples, count, not_finite, notes)
