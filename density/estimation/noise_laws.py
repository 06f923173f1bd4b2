r"""Proposals that reshape the noise of a posterior :math:`z = T_x(\epsilon)`.

Any distribution r of the noise is a proposal with

.. math:: \log r(z) = \log q(z \mid x) + \log r(\epsilon) - \log \mathcal{N}(\epsilon; 0, I)

A slightly widened posterior is the best default: under too narrow a proposal the weights have no
finite variance.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from scipy.special import gammaincinv
from torch import Tensor
from torch.distributions import Distribution

from density.estimation.proposal import Draws, chunk_sizes
from density.estimation.streams import own_draws
from density.model import LatentModel
from univae.errors import InputError
from univae.latent.sampling import from_noise

__all__ = ["Law", "StudentT", "Widened", "draws_from"]


class Law(ABC):
    """A distribution of noise of dimension d, a function of d + ``extra`` standard normals."""

    replicates: ClassVar[int] = 1
    extra: ClassVar[int] = 0

    @abstractmethod
    def shape(self, normals: Float64[Tensor, "*batch width"]) -> Float64[Tensor, "*batch d"]:
        """Return the noise of standard normals."""

    @abstractmethod
    def log_ratio(self, eps: Float64[Tensor, "*batch d"]) -> Float64[Tensor, "*batch"]:
        r"""Return :math:`\log r(\epsilon) - \log \mathcal{N}(\epsilon; 0, I)` of any noise."""

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws per datum: the posterior's map of this noise."""
        like = q.sample()
        width = q.event_shape.numel() + self.extra
        for count in chunk_sizes(samples, chunk):
            shape = (count, *q.batch_shape, width)
            with own_draws(x, "law"):
                normals = torch.randn(shape, dtype=torch.float64, device=like.device)
            yield draws_from(self, normals, q, like.dtype)


@dataclass(frozen=True)
class Widened(Law):
    r"""The posterior with its spread multiplied, :math:`\epsilon = f n`.

    A factor of 1.1 to 1.2 rarely hurts.

    Raises:
        InputError: ``factor`` is not positive and finite.
    """

    factor: float = 1.2

    def __post_init__(self) -> None:
        _require_positive("Widened", factor=self.factor)

    def shape(self, normals: Float64[Tensor, "*batch width"]) -> Float64[Tensor, "*batch d"]:
        """Return the normals times ``factor``."""
        return self.factor * normals

    def log_ratio(self, eps: Float64[Tensor, "*batch d"]) -> Float64[Tensor, "*batch"]:
        """Return the log-density of noise over that of standard normal noise."""
        log_volume = eps.shape[-1] * math.log(self.factor)
        return (1 - self.factor**-2) / 2 * eps.square().sum(-1) - log_volume


@dataclass(frozen=True)
class StudentT(Law):
    r"""The multivariate Student distribution with ``degrees`` :math:`\nu` of freedom.

    All coordinates share one heavy-tailed scale.

    .. math:: \epsilon = f n \sqrt{\nu / \chi^2_\nu}, \qquad
              r(\epsilon) \propto \bigl(1 + \|\epsilon\|^2 / (\nu f^2)\bigr)^{-(\nu + d) / 2}

    Against targets with Gaussian tails its weights are bounded. The chi-square is computed on the
    host.

    Raises:
        InputError: ``degrees`` or ``factor`` is not positive and finite.
    """

    degrees: float = 5.0
    factor: float = 1.0
    extra: ClassVar[int] = 1  # the normal from which the chi-square is computed

    def __post_init__(self) -> None:
        _require_positive("StudentT", degrees=self.degrees, factor=self.factor)

    def shape(self, normals: Float64[Tensor, "*batch width"]) -> Float64[Tensor, "*batch d"]:
        """Return Student noise; the last normal determines its scale."""
        uniform = torch.special.ndtr(normals[..., -1])
        quantile = 2 * gammaincinv(self.degrees / 2, uniform.cpu().numpy())
        chi_square = torch.as_tensor(quantile, device=normals.device)
        return self.factor * normals[..., :-1] * (self.degrees / chi_square).sqrt().unsqueeze(-1)

    def log_ratio(self, eps: Float64[Tensor, "*batch d"]) -> Float64[Tensor, "*batch"]:
        """Return the log-density of noise over that of standard normal noise."""
        nu = self.degrees
        dim = eps.shape[-1]
        square = eps.square().sum(-1)
        log_volume = dim / 2 * math.log(nu / 2 * self.factor**2)
        constant = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - log_volume
        tail = (nu + dim) / 2 * torch.log1p(square / (nu * self.factor**2))
        return constant - tail + square / 2


def draws_from(
    law: Law, normals: Tensor, q: Distribution, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the posterior's map of a law's noise, with its log-density."""
    eps = law.shape(normals)
    z, log_q = from_noise(q, eps.to(dtype).view(*normals.shape[:-1], *q.event_shape))
    return z, log_q + law.log_ratio(eps)


def _require_positive(who: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(
                f"{who}: {name} must be positive and finite; got {name}={value}; 1 keeps the spread"
            )
