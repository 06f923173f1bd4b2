"""As many samples as a datum needs: K doubles for the data whose standard error is still above the one asked for."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from density.estimation.importance import Estimate, log_weights, summarise
from density.estimation.proposals import Proposal
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["Adaptive", "estimate_until"]


class Adaptive(NamedTuple):
    """An estimate of every datum, with what it took and whether that was enough."""

    estimate: Estimate
    samples: Int[Tensor, "B"]  # K of each datum
    # False where the limit came first: read its khat and its standard error
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
    r"""Draw ``start`` samples a datum, and doubles K up to ``limit`` until ``standard_error`` nats are reached.

    All draws are kept, but each round encodes its data anew. A small error seen by luck ends the
    search early, so estimates stay below the truth a little more often than those of a fixed K:
    start with no fewer than some dozens.
    """
    if not 1 <= start <= limit or not standard_error > 0:
        raise InputError(
            f"estimate_until: needs 1 <= start <= limit and a positive standard_error; got start={start}, "
            f"limit={limit}, standard_error={standard_error}"
        )
    groups = proposal.replicates if proposal else 1
    log_w = log_weights(model, x, start, proposal=proposal, chunk=chunk)
    found = summarise(log_w, groups)
    used = torch.full_like(found.elbo, start, dtype=torch.long)
    open_ = torch.arange(len(used), device=used.device)
    while True:
        keep = found.standard_error[open_] > standard_error
        count = min(log_w.shape[0], limit - log_w.shape[0])
        if count == 0 or not keep.any():
            return Adaptive(found, used, found.standard_error <= standard_error)
        open_ = open_[keep]
        more = log_weights(model, x[open_.to(x.device)], count, proposal=proposal, chunk=chunk)
        log_w = _join(log_w[:, keep], more, groups)
        used[open_] = log_w.shape[0]
        for whole, part in zip(found, summarise(log_w, groups), strict=True):
            whole[open_] = part


def _join(
    a: Float64[Tensor, "K B"], b: Float64[Tensor, "J B"], groups: int
) -> Float64[Tensor, "N B"]:
    """Append draws to draws, each group of replicates to its own."""
    return torch.cat([a.unflatten(0, (groups, -1)), b.unflatten(0, (groups, -1))], 1).flatten(0, 1)
