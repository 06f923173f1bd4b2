r"""Models whose :math:`\log p(x)` is known, each with a posterior of a known fault.

Linear-Gaussian models have a closed form. The evidence of a latent of one or two dimensions is a
trapezoidal sum on a grid, which converges faster than any power of its distance for the smooth
integrands here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

from density.model import LatentModel
from univae.text.special import END
from univae.vae.model import UniVAE, UniVAEConfig

__all__ = ["CASES", "Case", "Counted", "Problem"]

DIMS = 3  # of the latents of the linear-Gaussian models
FEATURES = 8
NOISE = 0.5
GRID = 40_001  # points of one dimension
REACH = 40.0
TEXT_GRID = 81  # points of each of two dimensions
TEXT_REACH = 7.0
ROWS = 50_000  # decoded at once
TRAINING_COST = 3  # decodes of one with a gradient


@dataclass(frozen=True)
class Problem:
    """A model, data, and the log-likelihood of each datum."""

    model: LatentModel
    x: Tensor
    log_evidence: Float[Tensor, "B"]


Case = Callable[[int], Problem]  # from a number of data


@dataclass
class Counted:
    """A model that counts the rows it decodes for each datum; one with a gradient counts three."""

    model: LatentModel
    rows: float = 0.0

    def prior(self) -> Distribution:
        """Return the prior."""
        return self.model.prior()

    def posterior(self, x: Tensor) -> Distribution:
        """Return the posterior."""
        return self.model.posterior(x)

    def likelihood(self, z: Tensor) -> Distribution:
        """Return the likelihood, and count."""
        prior = self.model.prior()
        cost = TRAINING_COST if torch.is_grad_enabled() else 1
        self.rows += cost * z.numel() / prior.event_shape.numel()
        return self.model.likelihood(z)


@dataclass(frozen=True)
class LinearGaussian:
    """x = W z + eps / 2, with the exact posterior, its spread multiplied and its mean shifted."""

    w: Float[Tensor, "features d"]
    factor: float
    shift: float  # in standard deviations

    def prior(self) -> Distribution:
        """Return the standard normal."""
        return Independent(Normal(torch.zeros(self.w.shape[1]), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        """Return the exact posterior, distorted."""
        precision = self.w.T @ self.w / NOISE**2 + torch.eye(self.w.shape[1])
        covariance = torch.linalg.inv(precision)
        mean = x @ self.w @ covariance / NOISE**2 + self.shift * covariance.diag().sqrt()
        return MultivariateNormal(mean, self.factor**2 * covariance)

    def likelihood(self, z: Tensor) -> Distribution:
        """Return the normal around W z."""
        return Independent(Normal(z @ self.w.T, NOISE), 1)

    def evidence(self, x: Tensor) -> Tensor:
        """Return log p(x)."""
        covariance = self.w @ self.w.T + NOISE**2 * torch.eye(len(self.w))
        return MultivariateNormal(torch.zeros(len(self.w)), covariance).log_prob(x)


def _linear(factor: float, shift: float, count: int) -> Problem:
    model = LinearGaussian(torch.randn(FEATURES, DIMS), factor, shift)
    x = model.likelihood(model.prior().sample(Size((count,)))).sample()
    return Problem(model, x, model.evidence(x))


@dataclass(frozen=True)
class OneLatent:
    """A latent number with any prior and likelihood, and a normal posterior."""

    law: Distribution  # of z
    observe: Callable[[Tensor], Distribution]  # of x given z
    encode: Callable[[Tensor], Distribution]

    def prior(self) -> Distribution:
        """Return the law of z."""
        return self.law

    def posterior(self, x: Tensor) -> Distribution:
        """Return the normal posterior."""
        return self.encode(x)

    def likelihood(self, z: Tensor) -> Distribution:
        """Return the law of x given z."""
        return self.observe(z)

    def evidence(self, x: Tensor) -> Tensor:
        """Return log p(x) by a sum over a grid."""
        z = torch.linspace(-REACH, REACH, GRID).unsqueeze(-1)
        log_joint = self.law.log_prob(z) + self.observe(z).log_prob(x)
        return log_joint.logsumexp(0) + math.log(2 * REACH / (GRID - 1))


def _one_latent(model: OneLatent, count: int) -> Problem:
    x = model.likelihood(model.prior().sample(Size((count,)))).sample()
    return Problem(model, x, model.evidence(x))


def _absolute(count: int) -> Problem:
    """Observe the absolute value of z; the posterior sits on the positive mode."""
    observe = partial(_absolute_value, 0.2)
    return _one_latent(
        OneLatent(Normal(0.0, 1.0), observe, lambda x: Normal(x, 0.2)),
        count,
    )


def _absolute_value(scale: float, z: Tensor) -> Distribution:
    return Normal(z.abs(), scale)


def _two_clusters(count: int) -> Problem:
    """Take a prior of two clusters and a vague likelihood; the posterior sits on one cluster."""
    clusters = Normal(torch.tensor([-2.0, 2.0]), torch.tensor([0.5, 0.5]))
    prior = MixtureSameFamily(Categorical(torch.ones(2)), clusters)
    model = OneLatent(
        prior,
        lambda z: Normal(z, 3.0),
        lambda x: Normal(torch.full_like(x, 2.0), 0.5),
    )
    return _one_latent(model, count)


def _heavy_likelihood(count: int) -> Problem:
    model = OneLatent(
        Normal(0.0, 1.0),
        lambda z: StudentT(2.0, z, 0.3),
        lambda x: Normal(x, 0.3),
    )
    return _one_latent(model, count)


def _heavy_prior(count: int) -> Problem:
    model = OneLatent(
        StudentT(3.0),
        lambda z: Normal(z, 2.0),
        lambda x: Normal(0.2 * x, 0.5),
    )
    return _one_latent(model, count)


def _texts(count: int) -> Problem:
    """Take a small text model, far from its initial weights, with two latent numbers."""
    config = UniVAEConfig(8, 16, 2, 2, 1, 2, max_length=6)
    model = UniVAE(config).to(torch.get_default_dtype()).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    ids = torch.randint(4, 8, (count, 6))
    lengths = torch.randint(1, 6, (count,))
    ids = torch.where(torch.arange(6) < lengths.unsqueeze(-1), ids, 0)
    ids[torch.arange(count), lengths] = END
    return Problem(model, ids, _text_evidence(model, ids))


@torch.no_grad()
def _text_evidence(model: UniVAE, ids: Tensor) -> Tensor:
    axis = torch.linspace(-TEXT_REACH, TEXT_REACH, TEXT_GRID)
    grid = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    sums = []
    for text in ids.split(1):
        log_joint = []
        for z in grid.split(ROWS):
            log_joint.append(model.prior().log_prob(z) + model.likelihood(z).log_prob(text))
        sums.append(torch.cat(log_joint).logsumexp(0))
    return torch.cat(sums) + 2 * math.log(2 * TEXT_REACH / (TEXT_GRID - 1))


CASES: Mapping[str, Case] = {
    "exact posterior": partial(_linear, 1.0, 0.0),
    "shifted by one deviation": partial(_linear, 1.0, 1.0),
    "ten times too narrow": partial(_linear, 0.1, 0.0),
    "too narrow and shifted": partial(_linear, 0.3, 1.0),
    "three times too wide": partial(_linear, 3.0, 0.0),
    "two modes by symmetry": _absolute,
    "two clusters in the prior": _two_clusters,
    "heavy-tailed likelihood": _heavy_likelihood,
    "heavy-tailed prior": _heavy_prior,
    "texts, two latent numbers": _texts,
}
