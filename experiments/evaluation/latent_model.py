"""What a validation measures of any latent-variable model: likelihood with its evidence, bound, use of the latent."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from density.estimation.collapse import active_units, mutual_information, shuffled_gap, verdict
from density.estimation.diagnostics import khat_threshold, unreliable
from density.estimation.importance import Estimate, estimate
from density.model import LatentModel

__all__ = ["Bound", "codes", "measure", "of_training"]


class Bound(Protocol):
    """The two sides of an ELBO, in nats; :class:`univae.vae.Elbo` is one."""

    @property
    def log_likelihood(self) -> Tensor:
        """(B,): log p(x | z)."""

    @property
    def kl(self) -> Tensor:
        """(B, S): per datum and latent layer."""


@torch.no_grad()
def measure(
    model: LatentModel,
    parts: Sequence[Tensor],
    samples: int,
    bound: Callable[[Tensor], Bound],
    compared: Tensor | None = None,
    chunk: int | None = None,
    names: Sequence[int] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Means per datum in nats, over batches of data; ``bound`` gives one draw's bound of a batch.

    ``nll_nats`` is an importance-sampled estimate; ``elbo_nats`` = - ``reconstruction_nats`` - sum
    of ``kl_nats`` a bound from one draw. ``nll_standard_error`` is over data,
    ``nll_monte_carlo_error`` over draws. The latter means little for the share ``khat_unreliable``
    of data, whose k-hat is above ``khat_threshold``, what the samples bear, or no number (all,
    where draws are too few to tell): their estimate is still a loose lower bound.
    ``khat_above_0.7`` is the share above the threshold of many samples. Units are active by the
    variance of the codes, see :func:`codes`. Information and gap look at the data ``compared``, 64
    of the first batches by default, the information at all pairs of them; a single datum leaves
    them None. Expects a model that evaluates.

    Rows whose estimate or bound is not finite are left out of all means; ``not_finite`` lists them
    by ``names``, by default their places from 0, and ``notes`` says so. Without a finite row every
    number is null.
    """
    scored = [estimate(model, part, samples, chunk=chunk) for part in parts]
    bounds = [bound(part) for part in parts]
    finite = [_finite(*pair) for pair in zip(scored, bounds, strict=True)]
    whole = torch.cat(finite)
    left_out = _left_out(whole, names)
    if not whole.any():
        return _unknown(samples, len(whole)) | left_out
    columns = ("log_likelihood", "standard_error", "effective_samples", "khat")
    log_p, error, effective, khat = (
        torch.cat([getattr(s, name) for s in scored])[whole] for name in columns
    )
    kl = torch.cat([each.kl for each in bounds])[whole].mean(0)
    reconstruction = -torch.cat([each.log_likelihood for each in bounds])[whole].mean().item()
    if left_out:
        parts = [part[rows] for part, rows in zip(parts, finite, strict=True) if rows.any()]
    few = compared
    if few is None:
        few = next((part for part in parts if len(part) > 1), parts[0])[:64]

    return {
        "nll_nats": -log_p.mean().item(),
        "nll_standard_error": (log_p.std() / math.sqrt(len(log_p))).item()
        if len(log_p) > 1
        else None,
        "nll_monte_carlo_error": (error.square().sum().sqrt() / len(error)).item(),
        "effective_samples_median": effective.median().item(),
        "khat_above_0.7": unreliable(khat).double().mean().item(),
        "khat_unreliable": unreliable(khat, samples).double().mean().item(),
        "khat_threshold": khat_threshold(samples),
        "elbo_nats": -reconstruction - kl.sum().item(),
        "reconstruction_nats": reconstruction,
        "kl_nats": kl.tolist(),
        **_latent_use(model, few, torch.cat([codes(model, part) for part in parts])),
        "samples": samples,
        "data": len(log_p),
        **left_out,
    }


def _latent_use(model: LatentModel, compared: Tensor, modes: Tensor) -> dict[str, Any]:
    """Return the use of the latent.

    Its numbers are None for a single datum, which compares with nothing.
    """
    names = ["mutual_information_nats", "mutual_information_ceiling_nats"]
    names += ["shuffled_gap_nats", "shuffled_gap_standard_error"]
    if min(len(compared), len(modes)) < 2:
        none = dict.fromkeys(["active_units", *names])
        why = "the use of the latent cannot be judged by one held-out datum: it takes two at least"
        return {**none, "units": modes[:1].numel(), "verdict": why}
    information = mutual_information(model, compared, rows=1024)
    gap = shuffled_gap(model, compared, rows=64)
    units = active_units(modes)
    values = (information.nats, information.ceiling, gap.nats, gap.standard_error)

    return {
        "active_units": units.count
        if units.variances.isfinite().all()
        else None,  # NaN is above no threshold
        "units": units.variances.numel(),
        **dict(zip(names, values, strict=True)),
        "verdict": verdict(information, gap),
    }


def _finite(scored: Estimate, bound: Bound) -> Tensor:
    """Return which rows of a batch have a finite estimate and a finite bound, (B,)."""
    return (
        scored.log_likelihood.isfinite()
        & bound.log_likelihood.isfinite()
        & bound.kl.isfinite().all(-1)
    )


def _left_out(finite: Tensor, names: Sequence[int] | np.ndarray | None) -> dict[str, Any]:
    """Return ``not_finite`` and its note; nothing where all rows are finite."""
    places = (~finite).nonzero().squeeze(1).tolist()
    if not places:
        return {}
    rows = sorted(int(names[place]) for place in places) if names is not None else places
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    what = "row" if len(rows) == 1 else "rows"
    note = f"validation: {len(rows)} of {len(finite)} rows not finite ({what} {shown}), left out of its means"
    return {"not_finite": rows, "notes": [note]}


def _unknown(samples: int, count: int) -> dict[str, Any]:
    """Return what :func:`measure` does where no row is finite: no number, and every row unreliable."""
    return {
        **dict.fromkeys(_NUMBERS, math.nan),
        "khat_above_0.7": 1.0,
        "khat_unreliable": 1.0,
        "khat_threshold": khat_threshold(samples),
        "active_units": None,
        "samples": samples,
        "data": count,
        "verdict": "the use of the latent cannot be judged: no row is finite",
    }


_NUMBERS = (
    "nll_nats",
    "nll_standard_error",
    "nll_monte_carlo_error",
    "effective_samples_median",
    "elbo_nats",
    "reconstruction_nats",
    "mutual_information_nats",
    "mutual_information_ceiling_nats",
    "shuffled_gap_nats",
    "shuffled_gap_standard_error",
)


def codes(model: LatentModel, x: Tensor) -> Tensor:
    """The mode of the posterior, each layer's computed from the modes before it."""
    q = model.posterior(x)
    return q.modes() if hasattr(q, "modes") else q.mode


def of_training(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a training command prints of its last validation: the likelihood says whose it is."""
    renamed = {
        "nll_nats": "validation_nll_nats",
        "nll_standard_error": "validation_nll_standard_error",
    }
    return {renamed.get(name, name): value for name, value in result.items() if name != "selection"}
