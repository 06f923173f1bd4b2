"""The metrics of a latent-variable model in a validation: likelihood, bound, use of latents."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from density.estimation.collapse import (
    UnitMoments,
    mutual_information,
    shuffled_gap,
    verdict,
)
from density.estimation.importance import Estimate, estimate
from density.estimation.streams import own_streams
from density.model import LatentModel
from experiments.evaluation.khat_shares import KhatShares
from experiments.evaluation.measured import BoundMeans, LatentUse, LikelihoodMeans, Measured
from univae.checkpoint import JsonObject

__all__ = [
    "COMPARED",
    "Bound",
    "bound_and_use",
    "codes",
    "measure",
    "of_training",
    "without_selection",
]

COMPARED = 64  # rows of the mutual information by default
PAIRS = 1024  # pairs of row and latent evaluated at once for the mutual information
GAP_ROWS = 64  # rows evaluated at once for the shuffled gap
FEWEST = 2  # rows that measures of the latents need
LISTED = 5  # rows that a note lists before it ends in ...


@runtime_checkable
class Bound(Protocol):
    """The two terms of an ELBO, in nats; :class:`univae.vae.Elbo` is an example."""

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
    """Return means over rows, for a model in evaluation mode.

    The likelihood is importance-sampled; a row whose k-hat is above ``khat_threshold`` or NaN has a
    loose lower bound, and below 21 samples no row has a k-hat. A unit is active if the variance of
    its :func:`codes` is large.

    Args:
        model: prior, posterior and likelihood.
        batches: rows, as the model takes them.
        samples: importance samples per row.
        bound: returns the two terms of the ELBO of a batch from one sample of the posterior.
        compared: the rows of mutual information and shuffled gap; by default 64 of a batch.
        chunk: importance samples decoded at once.
        names: the numbers of the rows for ``not_finite``; by default from 0.
    """
    estimates = [estimate(model, batch, samples, chunk=chunk) for batch in batches]
    bounds = [bound(batch) for batch in batches]
    finite_rows = [_finite_rows(*terms) for terms in zip(estimates, bounds, strict=True)]
    finite = torch.cat(finite_rows)
    not_finite = _not_finite(finite, names)
    notes = _not_finite_notes(not_finite, len(finite))
    if not finite.any():
        return _without_means(samples, len(finite), not_finite, notes)

    batches = _selected(batches, finite_rows)
    if compared is None:
        compared = _default_compared(batches)
    likelihood = _likelihood_means(estimates, finite, samples)
    bound_means = _bound_means(bounds, finite)
    modes = UnitMoments()
    for batch in batches:
        modes.add(codes(model, batch))
    use = _latent_use(model, compared, modes)
    return Measured(likelihood, bound_means, use, samples, int(finite.sum()), not_finite, notes)


@torch.no_grad()
def bound_and_use(
    model: LatentModel,
    batches: Iterable[Tensor],
    bound: Callable[[Tensor], Bound],
    compared: Tensor,
    seed: int,
) -> JsonObject:
    """Return the bound, the KL per latent layer, and the use of the latents, without a likelihood.

    Rows whose bound is not finite are left out of the means, with a note. The batches are read one
    at a time, and one byte is kept of a row; ``compared`` are the rows of mutual information and
    shuffled gap. ``seed`` is that of each row's own draws for its bound. See :func:`measure`.
    """
    totals = _BoundTotals()
    finite_rows = []
    modes = UnitMoments()
    for batch in batches:
        with own_streams(seed):
            terms = bound(batch)
        finite = terms.log_likelihood.isfinite() & terms.kl.isfinite().all(-1)
        finite_rows.append(finite.cpu())
        if finite.any():
            totals.add(terms, finite)
            modes.add(codes(model, batch[finite]))
    finite = torch.cat(finite_rows)
    not_finite = _not_finite(finite, None)
    if not finite.any():
        words = "the use of the latent cannot be judged: no row is finite"
        return {"kl_nats": None, "kl_sum_nats": None, "active_units": None, "verdict": words}

    means = totals.means()
    result = means.to_json()
    result["kl_sum_nats"] = None if means.kl is None else sum(means.kl)
    result |= _latent_use(model, compared, modes).to_json()
    notes = _not_finite_notes(not_finite, len(finite))
    return {**result, "notes": notes} if notes else result


def codes(model: LatentModel, x: Tensor) -> Tensor:
    """Return the mode of the posterior, layer by layer, each from the modes of earlier layers."""
    q = model.posterior(x)
    return q.modes() if hasattr(q, "modes") else q.mode


def of_training(result: JsonObject) -> JsonObject:
    """Return the result of a training command, with a prefix for the likelihood of validations."""
    new_names = {
        "nll_nats": "validation_nll_nats",
        "nll_standard_error": "validation_nll_standard_error",
    }
    return {new_names.get(name, name): value for name, value in without_selection(result).items()}


def without_selection(result: JsonObject) -> JsonObject:
    """Return the result of training without ``selection``, which repeats another number."""
    numbers = dict(result)
    numbers.pop("selection", None)
    return numbers


def _selected(batches: Sequence[Tensor], rows_of_batch: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows (B,) selected from each batch, without empty batches."""
    selected = []
    for batch, rows in zip(batches, rows_of_batch, strict=True):
        if rows.all():
            selected.append(batch)
        elif rows.any():
            selected.append(batch[rows])
    return selected


def _default_compared(batches: Sequence[Tensor]) -> Tensor:
    """Return the first rows of a batch with at least two rows, if there is one."""
    several = (batch for batch in batches if len(batch) > 1)
    return next(several, batches[0])[:COMPARED]


def _likelihood_means(
    estimates: Sequence[Estimate], finite: Tensor, samples: int
) -> LikelihoodMeans:
    log_likelihood = torch.cat([each.log_likelihood for each in estimates])[finite]
    error = torch.cat([each.standard_error for each in estimates])[finite]
    effective = torch.cat([each.effective_samples for each in estimates])[finite]
    khat = torch.cat([each.khat for each in estimates])[finite]
    count = len(log_likelihood)
    over_rows = (log_likelihood.std() / math.sqrt(count)).item() if count > 1 else None

    return LikelihoodMeans(
        nll=-log_likelihood.mean().item(),
        standard_error=over_rows,
        monte_carlo_error=(error.square().sum().sqrt() / count).item(),
        effective_samples_median=effective.median().item(),
        khat=KhatShares.of(khat, samples),
    )


def _bound_means(bounds: Sequence[Bound], finite: Tensor) -> BoundMeans:
    kl = torch.cat([each.kl for each in bounds])[finite].mean(0)
    log_likelihood = torch.cat([each.log_likelihood for each in bounds])[finite]
    reconstruction = -log_likelihood.mean().item()
    return BoundMeans(-reconstruction - kl.sum().item(), reconstruction, kl.tolist())


class _BoundTotals:
    """Sums of the two terms of an ELBO over the finite rows of batches, in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._log_likelihood = 0.0
        self._kl: Tensor = torch.zeros((), dtype=torch.float64)

    def add(self, bound: Bound, finite: Tensor) -> None:
        self._count += int(finite.sum())
        self._log_likelihood += bound.log_likelihood[finite].double().sum().item()
        self._kl = self._kl + bound.kl[finite].double().sum(0).cpu()

    def means(self) -> BoundMeans:
        log_likelihood = self._log_likelihood / self._count
        kl = self._kl / self._count
        return BoundMeans(log_likelihood - kl.sum().item(), -log_likelihood, kl.tolist())


def _latent_use(model: LatentModel, compared: Tensor, modes: UnitMoments) -> LatentUse:
    if min(len(compared), modes.count) < FEWEST:
        words = (
            "the use of the latent cannot be judged by one held-out datum: it takes two at least"
        )
        return LatentUse(None, modes.units, None, None, None, None, words)

    information = mutual_information(model, compared, rows=PAIRS)
    gap = shuffled_gap(model, compared, rows=GAP_ROWS)
    units = modes.active_units()
    # a variance of NaN exceeds no threshold, so the count would be too low
    all_finite = bool(units.variances.isfinite().all())
    return LatentUse(
        active_units=units.count if all_finite else None,
        units=units.variances.numel(),
        mutual_information=information.nats,
        mutual_information_ceiling=information.ceiling,
        shuffled_gap=gap.nats,
        shuffled_gap_standard_error=gap.standard_error,
        verdict=verdict(information, gap),
    )


def _finite_rows(scores: Estimate, bound: Bound) -> Tensor:
    """Return which rows of a batch have a finite estimate and a finite bound, (B,)."""
    return (
        scores.log_likelihood.isfinite()
        & bound.log_likelihood.isfinite()
        & bound.kl.isfinite().all(-1)
    )


def _not_finite(finite: Tensor, names: Sequence[int] | np.ndarray | None) -> list[int]:
    """Return the names of the rows that are not finite, ascending."""
    rows = (~finite).nonzero().squeeze(1).tolist()
    if names is None:
        return rows
    return sorted(int(names[row]) for row in rows)


def _not_finite_notes(rows: Sequence[int], count: int) -> list[str]:
    if not rows:
        return []
    listed = ", ".join(map(str, rows[:LISTED])) + (", ..." if len(rows) > LISTED else "")
    noun = "row" if len(rows) == 1 else "rows"
    subject = f"{len(rows)} of {count} rows not finite ({noun} {listed})"
    return [f"validation: {subject}, left out of its means"]


def _without_means(
    samples: int, count: int, not_finite: Sequence[int], notes: Sequence[str]
) -> Measured:
    """Return a result without a finite row: every mean is NaN, and every k-hat unreliable."""
    nan = math.nan
    khat = KhatShares.of(torch.full((count,), nan), samples)
    likelihood = LikelihoodMeans(nan, nan, nan, nan, khat)
    words = "the use of the latent cannot be judged: no row is finite"
    use = LatentUse(None, None, nan, nan, nan, nan, words)
    bound = BoundMeans(nan, nan, None)
    return Measured(likelihood, bound, use, samples, count, not_finite, notes)
