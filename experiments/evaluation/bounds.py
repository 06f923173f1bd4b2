"""The two terms of the ELBO: the reconstruction, and the KL per latent layer."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

import density
from density.estimation.streams import own_draws, rows_with_streams
from experiments.evaluation.latent_model import Bound
from univae.latent.hierarchy import Hierarchical
from univae.latent.sampling import draw

__all__ = ["BoundTerms", "Bounded", "layered_bound"]


@runtime_checkable
class Bounded(Protocol):
    """A model whose bound from one sample has less variance than its log-weight, by an exact KL."""

    def elbo(self, x: Tensor) -> Bound:
        """Return the two terms of the ELBO of a batch, in nats."""
        ...


class BoundTerms(NamedTuple):
    """The two terms of an ELBO, in nats."""

    log_likelihood: Tensor  # (B,)
    kl: Tensor  # (B, S), per latent layer


def layered_bound(model: density.LatentModel, x: Tensor, samples: int = 1) -> BoundTerms:
    r"""Return the two terms of the ELBO of every row, the second per latent layer.

    They are :math:`\log p(x \mid z)` and :math:`\log q(z_l) - \log p(z_l)` in nats, means over
    ``samples`` samples of the posterior; their difference is the ELBO. A :class:`Bounded` model
    computes its own.
    """
    if isinstance(model, Bounded):
        repeated = rows_with_streams(x, torch.arange(len(x)).repeat(samples))
        with own_draws(repeated, "bound", axis=0):
            bound = model.elbo(repeated)
        terms = (bound.log_likelihood, bound.kl)
        return BoundTerms(*(term.unflatten(0, (samples, -1)).mean(0) for term in terms))

    q = model.posterior(x)
    p = model.prior()
    with own_draws(x, "bound"):
        z, log_q = draw(q, samples)
    if isinstance(q, Hierarchical) and isinstance(p, Hierarchical):
        kl = _layer_divergences(q, p, z)
    else:
        kl = (log_q - p.log_prob(z)).unsqueeze(-1)
    return BoundTerms(model.likelihood(z).log_prob(x).mean(0), kl.mean(0))


def _layer_divergences(q: Hierarchical, p: Hierarchical, z: Tensor) -> Tensor:
    layers = zip(q.conditionals(z), p.conditionals(z), q.layout.split(z), strict=True)
    return torch.stack([a.log_prob(z_l) - b.log_prob(z_l) for a, b, z_l in layers], -1)
