"""The log-likelihood of each datum by a model, or of log-weights that were drawn before."""

from typing import overload

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from density.estimation.importance import log_mean_weight
from density.estimation.proposal import Proposal
from density.model import LatentModel
from density.scores import score
from univae.errors import InputError
from univae.trained import Trained

__all__ = ["log_likelihood"]


@overload
def log_likelihood(model: Float[Tensor, "K *batch"]) -> Float64[Tensor, "*batch"]: ...


@overload
def log_likelihood(
    model: Trained | LatentModel,
    x: object,
    samples: int = 128,
    *,
    proposal: str | Proposal = "auto",
) -> Float64[Tensor, "B"]: ...


def log_likelihood(
    model: Trained | LatentModel | Float[Tensor, "K *batch"],
    x: object = None,
    samples: int = 128,
    *,
    proposal: str | Proposal = "auto",
) -> Float64[Tensor, "*batch"]:
    r"""Estimate :math:`\log p(x)` of each datum in nats, without gradients.

    An estimate is in expectation a lower bound; :func:`density.score`, which draws it, returns its
    error and diagnostics, too. ``log_likelihood(log_w)``, of log-weights (K, \*B)
    alone, is :func:`density.estimation.importance.log_mean_weight`.

    Args:
        model: a model with prior, posterior and likelihood, or a run.
        x: the data, see :func:`density.score`.
        samples: importance samples a datum; with ``auto`` the fewest.
        proposal: ``auto`` or the name of another proposal, or a proposal.

    Raises:
        InputError: there are no data, or the proposal does not exist or does not fit the latents.
    """
    if isinstance(model, Tensor):
        if x is not None:
            raise InputError(
                "log_likelihood: takes log-weights alone, or a model and data; got a tensor and "
                "data; give the model first"
            )
        return log_mean_weight(model)
    return torch.from_numpy(score(model, x, samples, proposal, seed=None).log_likelihood)
