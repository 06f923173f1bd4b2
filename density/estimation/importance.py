r"""Likelihood by importance sampling: from K log-weights per datum, an estimate and the signs that it can be trusted.

.. math:: \log p(x) \approx \log \frac1K \sum_k w_k, \qquad w_k = \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q

References:
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
    Variational autoencoder as density estimation (Su, 2021), https://kexue.fm/archives/8791
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution

from density.estimation.diagnostics import (
    effective_samples,
    pareto_khat,
    replicate_means,
    standard_error,
)
from density.estimation.proposals import Posterior, Proposal
from density.model import LatentModel, as_data
from univae.errors import InputError
from univae.latent.sampling import draw

__all__ = [
    "Estimate",
    "estimate",
    "log_likelihood",
    "log_weights",
    "summarise",
    "weigh",
    "weights_of",
]

# draws decoded at once unless told otherwise: the flat optimum of small decoders on a CPU
ROWS = 4096


class Estimate(NamedTuple):
    """What K importance samples say about each datum, in nats."""

    log_likelihood: Tensor  # estimate of log p(x): a lower bound in expectation
    elbo: Tensor  # mean log-weight: the bound at K = 1
    standard_error: Tensor  # of log_likelihood, to first order
    effective_samples: Tensor  # between 1 and K
    # Pareto tail index of the weights: where it is ``diagnostics.unreliable``, the error means
    # little
    khat: Tensor


@torch.no_grad()
def estimate(
    model: LatentModel,
    x: Tensor,
    samples: int,
    *,
    proposal: Proposal | None = None,
    chunk: int | None = None,
) -> Estimate:
    """Estimate the log-likelihood of each datum. Call ``model.eval()`` first: dropout would blur the proposal.

    ``elbo`` is the bound of the proposal: that of the model where the proposal is its posterior.
    """
    log_w = log_weights(model, x, samples, proposal=proposal, chunk=chunk)
    return summarise(log_w, proposal.replicates if proposal else 1)


def summarise(log_w: Float[Tensor, "K *batch"], replicates: int = 1) -> Estimate:
    """Read the estimate and its diagnostics off the log-weights, whatever proposal they came from.

    Where the K weights are ``replicates`` groups, dependent within and independent of each other,
    the standard error is that between the groups.
    """
    log_w = log_w.double()
    return Estimate(
        log_likelihood=log_likelihood(log_w),
        elbo=log_w.mean(dim=0),
        standard_error=standard_error(
            log_w if replicates == 1 else replicate_means(log_w, replicates)
        ),
        effective_samples=effective_samples(log_w),
        khat=pareto_khat(log_w),
    )


def log_likelihood(log_w: Float[Tensor, "K *batch"]) -> Float64[Tensor, "*batch"]:
    r"""Estimate :math:`\log p(x)` in nats; a lower bound in expectation, the ELBO at K = 1.

    >>> log_likelihood(torch.tensor([[0.25], [0.75]]).log()).exp()
    tensor([0.5000], dtype=torch.float64)
    """
    return log_w.double().logsumexp(dim=0) - math.log(log_w.shape[0])


def log_weights(
    model: LatentModel,
    x: Tensor,
    samples: int,
    *,
    proposal: Proposal | None = None,
    chunk: int | None = None,
) -> Float64[Tensor, "K B"]:
    r"""Draw :math:`\log w_k` for exactly ``samples`` draws a datum, ``chunk`` draws at a time.

    The data are encoded once. Without gradients the memory depends on ``chunk`` alone, apart from
    the result. The draws come from ``proposal``, unless it is given from the posterior as it is.
    """
    if samples < 1 or (chunk is not None and chunk < 1):
        raise InputError(
            f"log_weights: samples and chunk must be at least 1; got samples={samples}, chunk={chunk}"
        )
    x = as_data(x, "log_weights")
    prior = model.prior()
    q = model.posterior(x)
    chunk = chunk or max(1, ROWS // max(1, q.batch_shape.numel()))
    draws = (proposal or Posterior()).draws(model, x, q, samples, chunk)
    pieces = (weights_of(model, prior, q, x, z, log_q) for z, log_q in draws)
    return torch.cat(list(pieces)) if torch.is_grad_enabled() else _filled(pieces, samples)


def _filled(pieces: Iterator[Tensor], rows: int) -> Tensor:
    """Concatenate ``rows`` rows without keeping the pieces: small ones between large ones would hole the memory."""
    first = next(pieces)
    whole = first.new_empty(rows, *first.shape[1:])
    whole[: len(first)] = first
    start = len(first)
    del first
    for piece in pieces:
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole


def weigh(
    model: LatentModel, prior: Distribution, q: Distribution, x: Tensor, samples: int
) -> Float64[Tensor, "K B"]:
    r"""Return :math:`\log p(z_k) + \log p(x \mid z_k) - \log q(z_k)`, :math:`z_k \sim q`, for any proposal q."""
    z, log_q = draw(q, samples)
    return weights_of(model, prior, q, x, z, log_q)


def weights_of(
    model: LatentModel, prior: Distribution, q: Distribution, x: Tensor, z: Tensor, log_q: Tensor
) -> Float64[Tensor, "K B"]:
    """Weigh draws ``z`` of shape ``(K, B, *E)`` made for q's data, of log-density ``log_q`` where they came from."""
    shape = (z.shape[0], *q.batch_shape)
    terms = {
        "prior": prior.log_prob(z),
        "likelihood": model.likelihood(z).log_prob(x),
        "posterior": log_q,
    }
    for name, term in terms.items():
        if term.shape != shape:
            raise InputError(
                f"log_weights: the {name} must give one log-density per draw and datum, of shape "
                f"{shape}; got {tuple(term.shape)}; sum the others with Independent"
            )
    return terms["prior"].double() + terms["likelihood"].double() - terms["posterior"].double()
