r"""Geometric paths from a base density to the joint density of latents and data.

.. math:: \log f_\beta(z) = (1 - \beta) \log p_0(z) + \beta \log p(x, z)

References:
    Annealed Importance Sampling (Neal, 1998), https://arxiv.org/abs/physics/9803008
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from density.estimation.streams import own_draws
from density.model import LatentModel, draw_prior
from univae.errors import InputError
from univae.latent.sampling import from_noise

__all__ = ["BASES", "Base", "Path", "Start", "is_flat", "sigmoid_path"]

HALF = 0.5  # the share of each component of a mixture
STEEPNESS = 4.0  # of the sigmoid: its densities lie closer at both ends of the path


@runtime_checkable
class Base(Protocol):
    """The density from which a path starts."""

    def sample(self, chains: int) -> Float[Tensor, "chains B *event"]:
        """Draw the first latents of ``chains`` chains a datum."""
        ...

    def log_density(self, z: Tensor, log_prior: Tensor) -> Tensor:
        """Return the log-density of ``z``, whose log-density under the prior is ``log_prior``."""
        ...


class PriorBase:
    """The prior of the model."""

    def __init__(self, model: LatentModel, x: Tensor, prior: Distribution) -> None:
        self._prior = prior
        self._x = x

    def sample(self, chains: int) -> Float[Tensor, "chains B *event"]:
        """Draw from the prior."""
        with own_draws(self._x, "prior of chains"):
            return draw_prior(self._prior, chains, Size((len(self._x),)))

    def log_density(self, z: Tensor, log_prior: Tensor) -> Tensor:
        """Return ``log_prior``."""
        return log_prior


class PosteriorBase:
    """The posterior of the model, where a trained encoder saves most of the steps."""

    def __init__(self, model: LatentModel, x: Tensor, prior: Distribution) -> None:
        self._x = x
        self._posterior = model.posterior(x)

    def sample(self, chains: int) -> Float[Tensor, "chains B *event"]:
        """Draw from the posterior."""
        with own_draws(self._x, "posterior of chains"):
            return self._posterior.sample(Size((chains,)))

    def log_density(self, z: Tensor, log_prior: Tensor) -> Tensor:
        """Return the log-density of the posterior."""
        return self._posterior.log_prob(z).double()


class MixtureBase:
    """Half the posterior and half the prior: chains from both, where a posterior misses a mode."""

    def __init__(self, model: LatentModel, x: Tensor, prior: Distribution) -> None:
        self._x = x
        self._prior = PriorBase(model, x, prior)
        self._posterior = PosteriorBase(model, x, prior)

    def sample(self, chains: int) -> Float[Tensor, "chains B *event"]:
        """Draw from each with probability 1/2."""
        from_prior = self._prior.sample(chains)
        with own_draws(self._x, "mixture of chains"):
            picks = torch.rand(from_prior.shape[:2], device=from_prior.device) < HALF
        mask = picks.view(*picks.shape, *[1] * (from_prior.dim() - picks.dim()))
        return torch.where(mask, from_prior, self._posterior.sample(chains))

    def log_density(self, z: Tensor, log_prior: Tensor) -> Tensor:
        """Return the log-density of the mixture."""
        log_posterior = self._posterior.log_density(z, log_prior)
        return torch.logaddexp(log_prior, log_posterior) + math.log(HALF)


BASES: Mapping[str, Callable[[LatentModel, Tensor, Distribution], Base]] = {
    "prior": PriorBase,
    "posterior": PosteriorBase,
    "mixture": MixtureBase,
}

if TYPE_CHECKING:
    Start: TypeAlias = str
else:
    Start = Literal[tuple(BASES)]


@dataclass(frozen=True)
class Path:
    """The geometric path from a base density to the joint density of one batch of data."""

    model: LatentModel
    x: Tensor
    prior: Distribution
    base: Base

    def ends(self, z: Tensor) -> tuple[Float64[Tensor, "chains B"], Float64[Tensor, "chains B"]]:
        r"""Return :math:`\log p_0(z)` and :math:`\log p(x, z)`."""
        log_prior = self.prior.log_prob(z).double()
        base = self.base.log_density(z, log_prior)
        return base, log_prior + self.model.likelihood(z).log_prob(self.x).double()

    def log_density(self, beta: float, z: Tensor) -> Float64[Tensor, "chains B"]:
        """Return the unnormalised log-density at ``beta`` of the path."""
        base, joint = self.ends(z)
        return (1 - beta) * base + beta * joint

    def log_ratio(self, z: Tensor) -> Float64[Tensor, "chains B"]:
        """Return the joint log-density over that of the base."""
        base, joint = self.ends(z)
        return joint - base


def sigmoid_path(steps: int) -> Float64[Tensor, "points"]:
    r"""Return :math:`\beta_t \propto \sigma(4 (2t/T - 1)) - \sigma(-4)` from 0 to 1.

    >>> sigmoid_path(4)
    tensor([0.0000, 0.1050, 0.5000, 0.8950, 1.0000], dtype=torch.float64)
    """
    s = (STEEPNESS * torch.linspace(-1, 1, steps + 1, dtype=torch.float64)).sigmoid()
    return (s - s[0]) / (s[-1] - s[0])


def is_flat(prior: Distribution) -> bool:
    r"""Return whether the support is all of :math:`\mathbb{R}^d`, as Hamiltonian moves need.

    A prior that declares no support must map normal noise to latents.
    """
    try:
        support = prior.support
    except NotImplementedError:
        return _maps_noise(prior)
    while isinstance(support, constraints.independent | constraints.MixtureSameFamilyConstraint):
        support = support.base_constraint
    return isinstance(support, type(constraints.real))


def _maps_noise(prior: Distribution) -> bool:
    try:
        from_noise(prior, torch.zeros_like(prior.sample()))
    except InputError:
        return False
    return True
