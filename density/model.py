r"""What an estimator asks of a latent-variable model :math:`p(z)\, p(x \mid z)` with proposal :math:`q(z \mid x)`.

Three laws, each a ``torch.distributions.Distribution``, and nothing else: any model that can name them can be scored.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["JointlySampled", "LatentModel", "draw"]


@runtime_checkable
class LatentModel(Protocol):
    r"""A model of data ``x`` whose first axis counts B independent data.

    Shapes, for latents with event shape ``E`` and any sample shape ``S``: ``z`` is ``(*S, B, *E)``, and all three
    log-densities of ``z`` (of ``x`` given ``z``) are ``(*S, B)``: sum over pixels, words and layers, never average.
    """

    def prior(self) -> Distribution:
        r"""Gives :math:`p(z)`, of batch shape ``()``."""
        ...

    def posterior(self, x: Tensor) -> Distribution:
        r"""Gives :math:`q(z \mid x)`, of batch shape ``(B,)``."""
        ...

    def likelihood(self, z: Tensor) -> Distribution:
        r"""Gives :math:`p(x \mid z)`; its ``log_prob(x)`` broadcasts ``x`` over the sample axes of ``z``."""
        ...


@runtime_checkable
class JointlySampled(Protocol):
    """A posterior that scores a draw while it draws: one climb of a stack of layers instead of two."""

    def rsample_with_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]: ...


def draw(q: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    r"""Draws :math:`z_k \sim q` with :math:`\log q(z_k)`; differentiable in the parameters of q where q allows it."""
    shape = torch.Size((samples,))
    if isinstance(q, JointlySampled):
        return q.rsample_with_log_prob(shape)
    z = q.rsample(shape) if q.has_rsample else q.sample(shape)
    return z, q.log_prob(z)
