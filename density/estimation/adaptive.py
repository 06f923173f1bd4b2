"""Importance sampling that doubles K for data whose standard error is too large."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from density.estimation.importance import Estimate, log_weights, summarise
from density.estimation.proposals import Posterior, Proposal
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["Adaptive", "estimate_until"]


class Adaptive(NamedTuple):
    """An estimate of every datum, with the number of samples and whether the error was reached."""

    estimate: Estimate
    samples: Int[Tensor, "B"]  # K of each datum
    # False where the limit came first; khat and standard error show the quality
    reached: Bool[Tensor, "B"]


@torch.no_grad()
def estimate_until(
    model: LatentModel,
    x: Tensor,
    standard_error: float,
    *,
    start: int = 64,
    limit: int = 65536,
    proposal: Proposal | None = None,
    chunk: int | None = None,
) -> Adaptive:
    r"""Draw ``start`` samples a datum, then double K up to ``limit`` where the error is larger.

    ``standard_error`` is in nats. Every round encodes its data again and adds its draws to the
    earlier ones. A standard error that is small by chance ends the search early, so estimates lie
    below the truth slightly more often than those of a fixed K: use a ``start`` of some dozens.

    Raises:
        InputError: ``start`` is not within 1 and ``limit``, or ``standard_error`` not positive.
    """
    if not 1 <= start <= limit or not standard_error > 0:
        raise InputError(
            "estimate_until: needs 1 <= start <= limit and a positive standard_error; "
            f"got start={start}, limit={limit}, standard_error={standard_error}"
        )
    proposal = proposal or Posterior()
    groups = proposal.replicates
    log_w = log_weights(model, x, start, proposal=proposal, chunk=chunk)
    estimate = summarise(log_w, groups)
    samples = torch.full_like(estimate.elbo, start, dtype=torch.long)
    unfinished = torch.arange(len(samples), device=samples.device)

    while True:
        is_inexact = estimate.standard_error[unfinished] > standard_error
        count = min(log_w.shape[0], limit - log_w.shape[0])
        if count == 0 or not is_inexact.any():
            return Adaptive(estimate, samples, estimate.standard_error <= standard_error)

        unfinished = unfinished[is_inexact]
        rows = x[unfinished.to(x.device)]
        new_log_w = log_weights(model, rows, count, proposal=proposal, chunk=chunk)
        log_w = _append(log_w[:, is_inexact], new_log_w, groups)
        samples[unfinished] = log_w.shape[0]
        for values, new_values in zip(estimate, summarise(log_w, groups), strict=True):
            values[unfinished] = new_values


def _append(
    first: Float64[Tensor, "K B"], second: Float64[Tensor, "J B"], groups: int
) -> Float64[Tensor, "N B"]:
    """Append log-weights to log-weights, within each group of replicates."""
    grouped = [first.unflatten(0, (groups, -1)), second.unflatten(0, (groups, -1))]
    return torch.cat(grouped, 1).flatten(0, 1)
