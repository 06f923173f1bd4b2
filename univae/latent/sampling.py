r"""Samples of a posterior: drawn with their log-density, mapped from normal noise, or with constant parameters."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from univae.errors import InputError

__all__ = ["Detachable", "JointlySampled", "Reparametrised", "detached", "draw", "from_noise"]


@runtime_checkable
class JointlySampled(Protocol):
    """A posterior that scores a draw while it draws: one climb of a stack of layers instead of two."""

    def rsample_with_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]: ...


def draw(q: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    r"""Draw :math:`z_k \sim q` with :math:`\log q(z_k)`.

    Differentiable in the parameters of q where q allows it.
    """
    shape = torch.Size((samples,))
    if isinstance(q, JointlySampled):
        return q.rsample_with_log_prob(shape)
    z = q.rsample(shape) if q.has_rsample else q.sample(shape)
    return z, q.log_prob(z)


@runtime_checkable
class Reparametrised(JointlySampled, Protocol):
    r"""A posterior that maps standard normal noise to its draws: :math:`z = T_x(\epsilon)`.

    ``eps`` is ``(*S, B, *E)``, as z is; the answer is z with :math:`\log q(z \mid x)` of shape
    ``(*S, B)``, both differentiable in ``eps``. ``from_noise(randn)`` draws what ``rsample`` draws;
    the map is one-to-one.
    """

    def from_noise(self, eps: Tensor) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class Detachable(Protocol):
    r"""A posterior with a twin whose ``log_prob(z)`` is differentiable in z and in nothing else."""

    def detached(self) -> Distribution: ...


def from_noise(q: Distribution, eps: Tensor) -> tuple[Tensor, Tensor]:
    r"""Map standard normal noise to :math:`z = T(\epsilon)` with :math:`\log q(z)`.

    Any law r of the noise is a proposal, of density :math:`\log q(z) + \log r(\epsilon) - \log
    \mathcal{N}(\epsilon; 0, I)`, because T has the same Jacobian under both.
    """
    if isinstance(q, Reparametrised):
        return q.from_noise(eps)
    if isinstance(q, Independent):
        z, log_q = from_noise(q.base_dist, eps)
        return z, log_q.flatten(log_q.dim() - q.reinterpreted_batch_ndims).sum(-1)
    if isinstance(q, Normal):
        z = q.loc + q.scale * eps
    elif isinstance(q, MultivariateNormal):
        z = q.loc + (q.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)
    else:
        raise InputError(
            f"from_noise: needs a posterior that maps normal noise to its draws: Normal, MultivariateNormal, "
            f"Independent of these, or one with from_noise(eps); got {type(q).__name__}; use the posterior itself "
            f"(proposal=None) or Defensive()"
        )
    return z, q.log_prob(z)


def detached(q: Distribution) -> Distribution:
    r"""Return q with its parameters out of the graph: ``log_prob(z)`` is differentiable in z alone."""
    if isinstance(q, Detachable):
        return q.detached()
    if isinstance(q, Independent):
        return Independent(detached(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(q, Normal):
        return Normal(q.loc.detach(), q.scale.detach(), validate_args=False)
    if isinstance(q, MultivariateNormal):
        return MultivariateNormal(
            q.loc.detach(), scale_tril=q.scale_tril.detach(), validate_args=False
        )
    raise InputError(
        f"detached: needs a posterior whose parameters can leave the graph: Normal, MultivariateNormal, Independent of "
        f"these, or one with detached(); got {type(q).__name__}; use the objective iwae or elbo"
    )
