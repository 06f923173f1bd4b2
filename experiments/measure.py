"""What a validation measures of any latent-variable model: likelihood with its evidence, bound, use of the latent."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from density.importance import estimate
from density.latent_use import active_units, mutual_information, shuffled_gap, verdict
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
) -> dict[str, Any]:
    """Means per datum in nats, over batches of data; ``bound`` gives one draw's bound of a batch.

    ``nll_nats`` is an importance-sampled estimate; ``elbo_nats`` = - ``reconstruction_nats`` - sum of ``kl_nats`` a
    bound from one draw. ``nll_standard_error`` is over data, ``nll_monte_carlo_error`` over draws; the latter means
    little for the share ``khat_above_0.7`` of data, whose estimate is still a loose lower bound (all, where draws are
    too few to tell). Units are active by the variance of the codes, see :func:`codes`. Information and gap look at the
    data ``compared``, 64 of the first batches by default, the information at all pairs of them. Expects a model that
    evaluates.
    """
    scored = [estimate(model, part, samples, chunk=chunk) for part in parts]
    columns = ("log_likelihood", "standard_error", "effective_samples", "khat")
    log_p, error, effective, khat = (torch.cat([getattr(s, name) for s in scored]) for name in columns)
    bounds = [bound(part) for part in parts]
    kl = torch.cat([each.kl for each in bounds]).mean(0)
    reconstruction = -torch.cat([each.log_likelihood for each in bounds]).mean().item()
    few = parts[0][:64] if compared is None else compared
    information, gap = mutual_information(model, few, rows=1024), shuffled_gap(model, few, rows=64)
    units = active_units(torch.cat([codes(model, part) for part in parts]))

    return {
        "nll_nats": -log_p.mean().item(),
        "nll_standard_error": (log_p.std() / math.sqrt(len(log_p))).item(),
        "nll_monte_carlo_error": (error.square().sum().sqrt() / len(error)).item(),
        "effective_samples_median": effective.median().item(),
        "khat_above_0.7": (khat > 0.7).double().mean().item(),
        "elbo_nats": -reconstruction - kl.sum().item(),
        "reconstruction_nats": reconstruction,
        "kl_nats": kl.tolist(),
        "active_units": units.count,
        "units": units.variances.numel(),
        "mutual_information_nats": information.nats,
        "mutual_information_ceiling_nats": information.ceiling,
        "shuffled_gap_nats": gap.nats,
        "shuffled_gap_standard_error": gap.standard_error,
        "samples": samples,
        "data": len(log_p),
        "verdict": verdict(information, gap),
    }


def codes(model: LatentModel, x: Tensor) -> Tensor:
    """The mode of the posterior, each layer's computed from the modes before it."""
    q = model.posterior(x)
    return q.modes() if hasattr(q, "modes") else q.mode


def of_training(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a training command prints of its last validation: the likelihood says whose it is."""
    renamed = {"nll_nats": "validation_nll_nats", "nll_standard_error": "validation_nll_standard_error"}
    return {renamed.get(name, name): value for name, value in result.items() if name != "selection"}
