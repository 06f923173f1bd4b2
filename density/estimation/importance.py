r"""Likelihood by importance sampling: K log-weights per datum, an estimate and its diagnostics.

.. math:: \log p(x) \approx \log \frac1K \sum_k w_k, \qquad
          w_k = \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q

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

from density.estimation.batches import contiguous_draws
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
from univae.summaries import counted, mean_with_error

__all__ = [
    "Estimate",
    "draw_log_weights",
    "estimate",
    "log_likelihood",
    "log_mean_weight",
    "log_weights",
    "log_weights_of",
    "samples_decoded",
    "summarise",
]

# default limits of the rows decoded at once, the fastest for small decoders on a CPU, and of the
# numbers in them
DECODED_ROWS = 4096
DECODED_NUMBERS = 2**22


class Estimate(NamedTuple):
    """An estimate from K importance samples of each datum, in nats."""

    log_likelihood: Tensor  # estimate of log p(x): a lower bound in expectation
    elbo: Tensor  # mean log-weight: the bound at K = 1
    standard_error: Tensor  # of log_likelihood, to first order
    effective_samples: Tensor  # between 1 and K
    # Pareto tail index of the weights: if ``diagnostics.unreliable``, the standard error
    # is, too
    khat: Tensor

    def __repr__(self) -> str:
        """Return means over the data in one line."""
        return (
            f"Estimate(log_likelihood {mean_with_error(self.log_likelihood)} nats, "
            f"elbo {self.elbo.mean().item():.3f}, "
            f"effective_samples {self.effective_samples.median().item():.1f}, "
            f"khat {self.khat.median().item():.2f}, {counted(self.khat.numel())})"
        )


@torch.no_grad()
def estimate(
    model: LatentModel,
    x: Tensor,
    samples: int,
    *,
    proposal: Proposal | None = None,
    chunk: int | None = None,
) -> Estimate:
    """Estimate the log-likelihood of each datum.

    Call ``model.eval()`` first: with dropout the proposal changes from draw to draw. ``elbo`` is
    the bound of the proposal: that of the model where the proposal is its posterior, the default.

    Raises:
        InputError: see :func:`log_weights`.
    """
    proposal = proposal or Posterior()
    log_w = log_weights(model, x, samples, proposal=proposal, chunk=chunk)
    return summarise(log_w, proposal.replicates)


def summarise(log_w: Float[Tensor, "K *batch"], replicates: int = 1) -> Estimate:
    """Return the estimate and its diagnostics from log-weights of any proposal.

    Where the K weights are ``replicates`` groups, dependent within and independent of each other,
    the standard error is that between the groups.
    """
    log_w = log_w.double()
    independent = log_w if replicates == 1 else replicate_means(log_w, replicates)
    return Estimate(
        log_likelihood=log_mean_weight(log_w),
        elbo=log_w.mean(dim=0),
        standard_error=standard_error(independent),
        effective_samples=effective_samples(log_w),
        khat=pareto_khat(log_w),
    )


def log_mean_weight(log_w: Float[Tensor, "K *batch"]) -> Float64[Tensor, "*batch"]:
    r"""Return :math:`\log \frac1K \sum_k w_k`, the estimate of :math:`\log p(x)` in nats.

    It is a lower bound in expectation, the ELBO at K = 1.

    >>> log_mean_weight(torch.tensor([[0.25], [0.75]]).log()).exp()
    tensor([0.5000], dtype=torch.float64)
    """
    return log_w.double().logsumexp(dim=0) - math.log(log_w.shape[0])


log_likelihood = log_mean_weight  # its name in version 0.1.0


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
    the result. The draws come from ``proposal``, by default the posterior.

    Raises:
        InputError: ``samples`` or ``chunk`` is less than 1, ``x`` is empty, or a distribution of
            the model does not give one log-density per draw and datum.
    """
    if samples < 1 or (chunk is not None and chunk < 1):
        raise InputError(
            "log_weights: samples and chunk must be at least 1; "
            f"got samples={samples}, chunk={chunk}"
        )
    x = as_data(x, "log_weights")
    proposal = proposal or Posterior()
    q = model.posterior(x)  # before the prior: that of a Pyro model needs the data of a posterior
    prior = model.prior()
    chunk = chunk or samples_decoded(x, q.batch_shape.numel())
    draws = proposal.draws(model, x, q, samples, chunk)
    chunks = (log_weights_of(model, prior, q, x, z, log_q) for z, log_q in draws)
    if torch.is_grad_enabled():
        return torch.cat(list(chunks))
    return contiguous_draws(_concatenate(chunks, samples))


def samples_decoded(x: Tensor, count: int) -> int:
    """Return how many samples of each of ``count`` rows are decoded at once by default."""
    rows = min(DECODED_ROWS, DECODED_NUMBERS // max(1, x[0].numel()))
    return max(1, rows // max(1, count))


def _concatenate(chunks: Iterator[Tensor], rows: int) -> Tensor:
    """Concatenate chunks of ``rows`` rows in all, each freed before the next is computed.

    Small results allocated between large buffers would fragment the memory.
    """
    first = next(chunks)
    result = first.new_empty(rows, *first.shape[1:])
    result[: len(first)] = first
    start = len(first)
    del first
    for chunk in chunks:
        result[start : start + len(chunk)] = chunk
        start += len(chunk)
    return result


def draw_log_weights(
    model: LatentModel, prior: Distribution, q: Distribution, x: Tensor, samples: int
) -> Float64[Tensor, "K B"]:
    r"""Return :math:`\log p(z_k) + \log p(x \mid z_k) - \log q(z_k)` for draws :math:`z_k \sim q`.

    Any distribution over latents of ``x`` may be q.
    """
    z, log_q = draw(q, samples)
    return log_weights_of(model, prior, q, x, z, log_q)


def log_weights_of(
    model: LatentModel, prior: Distribution, q: Distribution, x: Tensor, z: Tensor, log_q: Tensor
) -> Float64[Tensor, "K B"]:
    """Return the log-weights of draws ``z``, (K, B, *E), whose log-density is ``log_q``, (K, B).

    Only the batch shape of ``q`` is used.

    Raises:
        InputError: a log-density is not of shape (K, B).
    """
    shape = (z.shape[0], *q.batch_shape)
    log_p_z = prior.log_prob(z)
    log_p_x = model.likelihood(z).log_prob(x)
    _require_shape("prior", log_p_z, shape)
    _require_shape("likelihood", log_p_x, shape)
    _require_shape("posterior", log_q, shape)
    return log_p_z.double() + log_p_x.double() - log_q.double()


def _require_shape(name: str, log_density: Tensor, shape: tuple[int, ...]) -> None:
    if log_density.shape != shape:
        raise InputError(
            f"log_weights: the {name} must give one log-density per draw and datum, of shape "
            f"{shape}; got {tuple(log_density.shape)}; sum the others with Independent"
        )
