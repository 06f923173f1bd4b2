r"""What an estimator asks of a latent-variable model :math:`p(z)\, p(x \mid z)` with proposal :math:`q(z \mid x)`.

Three laws, each a ``torch.distributions.Distribution``, and nothing else: any model that can name them can be scored.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from univae.errors import InputError

__all__ = [
    "Detachable",
    "JointlySampled",
    "LatentModel",
    "Reparametrised",
    "as_data",
    "check_gradients",
    "detached",
    "draw",
    "from_noise",
]


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


def as_data(x: Tensor, who: str) -> Tensor:
    """Return the data as models take them: truth values become zeros and ones of the default dtype.

    Raises:
        InputError: for no data at all.
    """
    if len(x) == 0:
        raise InputError(f"{who}: needs at least one datum; got a tensor of shape {tuple(x.shape)}; leave it out")
    return x.to(torch.get_default_dtype()) if x.dtype == torch.bool else x


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


@runtime_checkable
class Reparametrised(JointlySampled, Protocol):
    r"""A posterior that maps standard normal noise to its draws: :math:`z = T_x(\epsilon)`.

    ``eps`` is ``(*S, B, *E)``, as z is; the answer is z with :math:`\log q(z \mid x)` of shape ``(*S, B)``, both
    differentiable in ``eps``. ``from_noise(randn)`` draws what ``rsample`` draws; the map is one-to-one.
    """

    def from_noise(self, eps: Tensor) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class Detachable(Protocol):
    r"""A posterior with a twin whose ``log_prob(z)`` is differentiable in z and in nothing else."""

    def detached(self) -> Distribution: ...


def from_noise(q: Distribution, eps: Tensor) -> tuple[Tensor, Tensor]:
    r"""Maps standard normal noise to :math:`z = T(\epsilon)` with :math:`\log q(z)`.

    Any law r of the noise is a proposal, of density
    :math:`\log q(z) + \log r(\epsilon) - \log \mathcal{N}(\epsilon; 0, I)`, because T has the same Jacobian under both.
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
    r"""Gives q with its parameters out of the graph: ``log_prob(z)`` is differentiable in z alone."""
    if isinstance(q, Detachable):
        return q.detached()
    if isinstance(q, Independent):
        return Independent(detached(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(q, Normal):
        return Normal(q.loc.detach(), q.scale.detach(), validate_args=False)
    if isinstance(q, MultivariateNormal):
        return MultivariateNormal(q.loc.detach(), scale_tril=q.scale_tril.detach(), validate_args=False)
    raise InputError(
        f"detached: needs a posterior whose parameters can leave the graph: Normal, MultivariateNormal, Independent of "
        f"these, or one with detached(); got {type(q).__name__}; use the objective iwae or elbo"
    )


def check_gradients(who: str) -> None:
    """Refuses inference mode, under which a gradient in z cannot be had even after ``enable_grad``."""
    if torch.is_inference_mode_enabled():
        raise InputError(f"{who}: takes gradients in z; got inference mode; call it under torch.no_grad() instead")
