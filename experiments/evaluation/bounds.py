"""The two sides of the ELBO per latent layer."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

import density
from experiments.evaluation.latent_model import Bound
from univae.latent.hierarchy import Hierarchical
from univae.latent.sampling import draw

__all__ = ["Bounded", "Sides", "layered_bound"]


@runtime_checkable
class Bounded(Protocol):
    """A model with a bound of its own from one draw a datum, less noisy than the log-weight: the KL is exact, say."""

    def elbo(self, x: Tensor) -> Bound: ...


class Sides(NamedTuple):
    """The two sides of an ELBO, in nats."""

    log_likelihood: Tensor  # (B,)
    kl: Tensor  # (B, S), per latent layer


def layered_bound(model: density.LatentModel, x: Tensor, samples: int = 1) -> Sides:
    r"""Return :math:`\log p(x \mid z)` per datum and :math:`\log q(z_l) - \log p(z_l)` per datum and layer, in nats.

    Means over ``samples`` draws of the posterior; their difference is the ELBO. A :class:`Bounded`
    model gives its own.
    """
    if isinstance(model, Bounded):
        own = model.elbo(x.repeat(samples, *[1] * (x.dim() - 1)))
        return Sides(
            *(side.unflatten(0, (samples, -1)).mean(0) for side in (own.log_likelihood, own.kl))
        )
    q = model.posterior(x)
    p = model.prior()
    z, log_q = draw(q, samples)
    if isinstance(q, Hierarchical) and isinstance(p, Hierarchical):
        parts = q.layout.split(z)
        pairs = zip(q.conditionals(z), p.conditionals(z), parts, strict=True)
        kl = torch.stack([a.log_prob(part) - b.log_prob(part) for a, b, part in pairs], -1)
    else:
        kl = (log_q - p.log_prob(z)).unsqueeze(-1)
    return Sides(model.likelihood(z).log_prob(x).mean(0), kl.mean(0))
