r"""Proposals of importance sampling other than the posterior itself.

Where a posterior maps normal noise to its draws, :math:`z = T_x(\epsilon)`, any distribution r of
the noise is a proposal:

.. math:: \log r(z) = \log q(z \mid x) + \log r(\epsilon) - \log \mathcal{N}(\epsilon; 0, I)

so a :class:`Law` shapes noise and needs no model, :class:`Sobol` draws from a law by evenly spread
points, and all of them leave the weights unbiased. A posterior is best widened a little: with too
narrow a proposal the weights have no variance.

References:
    Weighted Average Importance Sampling and Defensive Mixture Distributions (Hesterberg, 1995)
    Randomization of Number Theoretic Methods for Multiple Integration (Cranley & Patterson, 1976)
    Monte Carlo theory, methods and examples (Owen, 2013), chapters 9 and 17,
    https://artowen.su.domains/mc/
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float64
from scipy.special import gammaincinv
from torch import Tensor
from torch.distributions import Distribution
from torch.quasirandom import SobolEngine

from density.model import LatentModel
from univae.errors import InputError
from univae.latent.sampling import draw, from_noise

__all__ = ["Defensive", "Draws", "Law", "Posterior", "Proposal", "Sobol", "StudentT", "Widened"]

# z (k, B, *E) and its log-density (k, B), chunk by chunk
Draws: TypeAlias = Iterator[tuple[Tensor, Tensor]]

# The normal quantile at 0 is infinite; at this float it is -8 standard deviations.
SMALLEST_UNIFORM = 2.0**-53


@runtime_checkable
class Proposal(Protocol):
    """A source of latents with their log-density."""

    @property
    def replicates(self) -> int:
        """The number of groups of draws that are independent of each other."""
        ...

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield exactly ``samples`` draws a datum, at most ``chunk`` at a time.

        ``q`` is the posterior of ``x``.
        """
        ...


@dataclass(frozen=True)
class Posterior:
    """The posterior as it is."""

    replicates: ClassVar[int] = 1

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum of the posterior."""
        for count in _chunk_sizes(samples, chunk):
            yield draw(q, count)


class Law(ABC):
    """A distribution of noise of dimension d, made of d + ``extra`` standard normals."""

    replicates: ClassVar[int] = 1
    extra: ClassVar[int] = 0

    @abstractmethod
    def shape(
        self, normals: Float64[Tensor, "*batch width"]
    ) -> tuple[Tensor, Float64[Tensor, "*batch"]]:
        r"""Return the noise and :math:`\log r(\epsilon) - \log \mathcal{N}(\epsilon; 0, I)`."""

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum, mapped from this noise by the posterior."""
        like = q.sample()
        width = q.event_shape.numel() + self.extra
        for count in _chunk_sizes(samples, chunk):
            shape = (count, *q.batch_shape, width)
            normals = torch.randn(shape, dtype=torch.float64, device=like.device)
            yield _draws_from(self, normals, q, like.dtype)


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

    def shape(
        self, normals: Float64[Tensor, "*batch width"]
    ) -> tuple[Tensor, Float64[Tensor, "*batch"]]:
        """Return the normals times ``factor``, and their log-ratio to standard normal noise."""
        log_volume = normals.shape[-1] * math.log(self.factor)
        log_ratio = (self.factor**2 - 1) / 2 * normals.square().sum(-1) - log_volume
        return self.factor * normals, log_ratio


@dataclass(frozen=True)
class StudentT(Law):
    r"""The multivariate Student distribution with ``degrees`` :math:`\nu` of freedom.

    Its heavy tail is one for all coordinates.

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

    def shape(
        self, normals: Float64[Tensor, "*batch width"]
    ) -> tuple[Tensor, Float64[Tensor, "*batch"]]:
        """Return Student noise, and its log-ratio to standard normal noise."""
        nu = self.degrees
        dim = normals.shape[-1] - 1
        uniform = torch.special.ndtr(normals[..., -1])
        quantile = 2 * gammaincinv(nu / 2, uniform.cpu().numpy())
        chi_square = torch.as_tensor(quantile, device=normals.device)
        eps = self.factor * normals[..., :-1] * (nu / chi_square).sqrt().unsqueeze(-1)

        square = eps.square().sum(-1)
        log_volume = dim / 2 * math.log(nu / 2 * self.factor**2)
        constant = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - log_volume
        tail = (nu + dim) / 2 * torch.log1p(square / (nu * self.factor**2))
        return eps, constant - tail + square / 2


@dataclass(frozen=True)
class Sobol:
    r"""The K draws of a datum are one scrambled Sobol set, shifted at random modulo 1.

    The shift, one for each datum, makes every point uniform, so the weights are unbiased, and keeps
    the errors of different data uncorrelated; the scrambling mends the poor projections that the
    first points have in many dimensions.

    Points of one set repel each other, so the standard error for independent weights does not hold:
    mostly it is far too large. With ``replicates`` R the draws are R sets of K / R points, and the
    error between the sets is reliable for R of 5 or more; but the fewer points a set has, the less
    they gain.
    """

    law: Law = field(default_factory=lambda: Widened(1.0))
    replicates: int = 1

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum, set by set.

        Raises:
            InputError: ``samples`` is no multiple of ``replicates``.
        """
        if self.replicates < 1 or samples % self.replicates:
            divisor = max(1, self.replicates)
            multiple = -(-samples // divisor) * self.replicates
            raise InputError(
                "Sobol: samples must be a multiple of replicates; "
                f"got samples={samples}, replicates={self.replicates}; round up to {multiple}"
            )
        like = q.sample()
        width = q.event_shape.numel() + self.law.extra
        for _ in range(self.replicates):
            points = SobolEngine(width, scramble=True)
            shift = torch.rand(*q.batch_shape, width, dtype=torch.float64)
            for count in _chunk_sizes(samples // self.replicates, chunk):
                batch_dims = [1] * len(q.batch_shape)
                uniforms = points.draw(count, dtype=torch.float64).view(count, *batch_dims, width)
                uniforms = (uniforms + shift) % 1
                uniforms = uniforms.clamp(SMALLEST_UNIFORM, 1 - SMALLEST_UNIFORM)
                normals = torch.special.ndtri(uniforms).to(like.device)
                yield _draws_from(self.law, normals, q, like.dtype)


@dataclass(frozen=True)
class Defensive:
    r"""The mixture :math:`\alpha\, q(z \mid x) + (1 - \alpha)\, p(z)` of posterior and prior.

    No weight exceeds :math:`p(x \mid z) / (1 - \alpha)`: their variance is finite wherever the
    likelihood is bounded, whatever the posterior misses. Any posterior will do; the draws carry no
    gradient.

    Raises:
        InputError: ``share`` is not between 0 and 1.
    """

    share: float = 0.9
    replicates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(
                f"Defensive: share must lie between 0 and 1; got share={self.share}; 0.9 is usual"
            )

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum of the mixture."""
        prior = model.prior()
        event_dims = [1] * len(q.event_shape)
        for count in _chunk_sizes(samples, chunk):
            shape = torch.Size((count, *q.batch_shape))
            from_posterior = q.sample(torch.Size((count,)))
            from_prior = prior.sample(shape)
            picks = torch.rand(shape, device=from_posterior.device) < self.share
            z = torch.where(picks.view(*shape, *event_dims), from_posterior, from_prior)
            log_q = q.log_prob(z) + math.log(self.share)
            log_p = prior.log_prob(z) + math.log1p(-self.share)
            yield z, torch.logaddexp(log_q, log_p)


def _draws_from(
    law: Law, normals: Tensor, q: Distribution, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the draws and log-densities that the posterior makes of a law's noise."""
    eps, log_ratio = law.shape(normals)
    z, log_q = from_noise(q, eps.to(dtype).view(*normals.shape[:-1], *q.event_shape))
    return z, log_q + log_ratio


def _chunk_sizes(samples: int, chunk: int) -> Iterator[int]:
    """Yield the sizes of chunks of at most ``chunk`` that add up to ``samples``."""
    for start in range(0, samples, chunk):
        yield min(chunk, samples - start)


def _require_positive(who: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(
                f"{who}: {name} must be positive and finite; got {name}={value}; 1 keeps the spread"
            )
