r"""Samples of a posterior: with log-densities, from and to noise, or of constant parameters."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from univae.errors import InputError

__all__ = [
    "Detachable",
    "Invertible",
    "JointlySampled",
    "Reparametrised",
    "detached",
    "draw",
    "from_noise",
    "to_noise",
]


@runtime_checkable
class JointlySampled(Protocol):
    """A posterior that computes log-densities while it samples.

    A stack of latent layers is then climbed once instead of twice.
    """

    def rsample_with_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Return samples and their log-densities."""
        ...


def draw(q: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    r"""Draw :math:`z_k \sim q` and return it with :math:`\log q(z_k)`.

    Both are differentiable in the parameters of q where q is reparametrised.
    """
    shape = torch.Size((samples,))
    if isinstance(q, JointlySampled):
        return q.rsample_with_log_prob(shape)
    z = q.rsample(shape) if q.has_rsample else q.sample(shape)
    return z, q.log_prob(z)


@runtime_checkable
class Reparametrised(JointlySampled, Protocol):
    r"""A posterior that maps standard normal noise to its samples: :math:`z = T_x(\epsilon)`.

    ``from_noise(randn)`` has the distribution of ``rsample``; the map is one-to-one.
    """

    def from_noise(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and its log-density for noise (\*S, B, \*E), differentiable in ``eps``."""
        ...


@runtime_checkable
class Invertible(Reparametrised, Protocol):
    r"""A map of normal noise with its inverse, :math:`\epsilon = T_x^{-1}(z)`."""

    def to_noise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the noise of latents (\*S, B, \*E), differentiable in ``z``, and log q(z)."""
        ...


@runtime_checkable
class Detachable(Protocol):
    r"""A posterior that can be held constant in its parameters."""

    def detached(self) -> Distribution:
        """Return q with a ``log_prob(z)`` that is differentiable in z alone."""
        ...


def from_noise(q: Distribution, eps: Tensor) -> tuple[Tensor, Tensor]:
    r"""Map standard normal noise to :math:`z = T(\epsilon)` with :math:`\log q(z)`.

    Noise of any density r gives a proposal of log-density :math:`\log q(z) + \log r(\epsilon) -
    \log \mathcal{N}(\epsilon; 0, I)`, because T has the same Jacobian under both.

    Raises:
        InputError: q is not a map of normal noise.
    """
    posterior: Distribution = q  # isinstance narrows the type of q alone
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
            "from_noise: needs a posterior that maps normal noise to its samples: Normal, "
            "MultivariateNormal, Independent of these, or one with from_noise(eps); "
            f"got {type(q).__name__}; use the posterior itself (proposal=None) or Defensive()"
        )
    return z, posterior.log_prob(z)


def to_noise(q: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
    r"""Map z to the noise :math:`\epsilon = T^{-1}(z)` of :func:`from_noise`, with log q(z).

    Raises:
        InputError: q is not a map of normal noise, or its inverse is unknown.
    """
    posterior: Distribution = q  # isinstance narrows the type of q alone
    if isinstance(q, Invertible):
        return q.to_noise(z)
    if isinstance(q, Independent):
        eps, log_q = to_noise(q.base_dist, z)
        return eps, log_q.flatten(log_q.dim() - q.reinterpreted_batch_ndims).sum(-1)
    if isinstance(q, Normal):
        eps = (z - q.loc) / q.scale
    elif isinstance(q, MultivariateNormal):
        centred = (z - q.loc).unsqueeze(-1)
        eps = torch.linalg.solve_triangular(q.scale_tril, centred, upper=False).squeeze(-1)
    else:
        raise InputError(
            "to_noise: needs a posterior that maps normal noise to its samples one-to-one: Normal, "
            "MultivariateNormal, Independent of these, or one with to_noise(z); "
            f"got {type(q).__name__}; use the posterior itself (proposal=None) or Defensive()"
        )
    return eps, posterior.log_prob(z)


def detached(q: Distribution) -> Distribution:
    r"""Return q with constant parameters: ``log_prob(z)`` is differentiable in z alone.

    Raises:
        InputError: q is of a type whose parameters cannot be detached.
    """
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
        "detached: needs a posterior whose parameters can be held constant: Normal, "
        "MultivariateNormal, Independent of these, or one with detached(); "
        f"got {type(q).__name__}; use the objective iwae or elbo"
    )
