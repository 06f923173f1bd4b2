"""Scores of every datum by a proposal or its name: the numbers of the command and of functions."""

import torch
from torch import Tensor

from density.estimation.auto import estimate_auto
from density.estimation.diagnostics import khat_is_defined, khat_threshold
from density.estimation.flat_latents import require_flat
from density.estimation.importance import log_weights, summarise
from density.estimation.proposal import Proposal
from density.estimation.registry import PROPOSALS
from density.model import LatentModel
from univae.registry import lookup

__all__ = ["BOUND_DRAWS", "COLUMNS", "REFINED", "auto_scores", "check_proposal", "datum_scores"]

COLUMNS = ("log_likelihood", "standard_error", "elbo", "effective_samples", "khat")
BOUND_DRAWS = 32  # of the posterior, for the model's own bound
REFINED = 16  # latents of a datum that a refined posterior decodes at once


def datum_scores(
    model: LatentModel, x: Tensor, samples: int, proposal: str | Proposal, chunk: int | None
) -> dict[str, Tensor]:
    """Return :data:`COLUMNS` for each datum of a batch, ``samples`` and ``reliable``.

    Below 21 samples a fixed proposal has no k-hat: ``khat`` is NaN, and ``reliable`` is missing.

    Args:
        model: the model, in evaluation mode.
        x: a batch of data.
        samples: importance samples a datum; with ``auto`` the fewest.
        proposal: a row of :data:`density.estimation.registry.PROPOSALS`, or a proposal.
        chunk: samples decoded at once; None: the estimator's choice.
    """
    if isinstance(proposal, str):
        row = PROPOSALS[proposal]
        if row.decides:
            return auto_scores(model, x, samples, chunk=chunk)
        proposal = row.proposal
    log_w = log_weights(model, x, samples, proposal=proposal, chunk=chunk)
    scores = summarise(log_w, proposal.replicates)._asdict()
    scores["samples"] = torch.full((log_w.shape[1],), samples)
    if not khat_is_defined(samples):
        return scores | {"khat": torch.full_like(scores["elbo"], torch.nan)}
    reliable = (scores["khat"] <= khat_threshold(samples)) & scores["log_likelihood"].isfinite()
    return scores | {"reliable": reliable}


def auto_scores(
    model: LatentModel,
    x: Tensor,
    samples: int,
    *,
    standard_error: float | None = None,
    limit: int = 0,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Return the scores of :func:`density.estimate_auto`, and how each datum was estimated.

    ``elbo`` is the bound of the model's own posterior, from :data:`BOUND_DRAWS` draws. The other
    arguments are those of :func:`density.estimate_auto`.
    """
    result = estimate_auto(
        model,
        x,
        samples=samples,
        standard_error=standard_error,
        limit=max(samples, limit),
        chunk=chunk,
    )
    columns = {column: getattr(result.estimate, column) for column in COLUMNS}
    bound = log_weights(model, x, BOUND_DRAWS, chunk=chunk).mean(0)
    return {
        **columns,
        "elbo": bound,
        "samples": result.samples,
        "refined": result.decision.refined,
        "annealed": result.annealed,
        "reliable": result.reliable,
    }


def check_proposal(model: LatentModel, x: Tensor, proposal: str | Proposal) -> None:
    r"""Raise :class:`InputError` for a proposal that does not exist or does not fit the latents.

    Those that widen noise need latents on all of :math:`\mathbb{R}^d`. ``x`` are a few data: the
    prior of a Pyro model is one beside data.
    """
    if not isinstance(proposal, str):
        return
    row = lookup(PROPOSALS, proposal, "score: proposal")
    if "width" not in row.settings:
        return
    model.posterior(x)
    remedy = "use 'auto', 'posterior' or 'defensive'"
    require_flat(model.prior(), f"score: proposal={proposal!r}", remedy)
