r"""Proposals: where the draws of importance sampling come from, if not from the posterior as it is.

Where a posterior maps normal noise to its draws, :math:`z = T_x(\epsilon)`, any law r of the noise
is a proposal:

.. math:: \log r(z) = \log q(z \mid x) + \log r(\epsilon) - \log \mathcal{N}(\epsilon; 0, I)

so a :class:`Law` shapes noise and knows no model, :class:`Sobol` feeds a law with evenly spread
points, and all of them leave the weights unbiased. A posterior is best widened a little: too narrow
a proposal has weights without variance.

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

# z (k, B, *E) and its log-density (k, B), piece by piece
Draws: TypeAlias = Iterator[tuple[Tensor, Tensor]]


@runtime_checkable
class Proposal(Protocol):
    """Draws latents with their log-density.

    ``replicates`` counts the groups of draws that are independent.
    """

    @property
    def replicates(self) -> int: ...

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
        for count in _pieces(samples, chunk):
            yield draw(q, count)


class Law(ABC):
    """A law of the noise of dimension d, made of d + ``extra`` independent standard normals."""

    replicates: ClassVar[int] = 1
    extra: ClassVar[int] = 0

    @abstractmethod
    def shape(
        self, normals: Float64[Tensor, "*batch width"]
    ) -> tuple[Tensor, Float64[Tensor, "*batch"]]:
        r"""Return noise :math:`\epsilon` with :math:`\log r(\epsilon) - \log \mathcal{N}(\epsilon.

        0, I)`.
        """

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        like = q.sample()
        width = q.event_shape.numel() + self.extra
        for count in _pieces(samples, chunk):
            normals = torch.randn(
                count, *q.batch_shape, width, dtype=torch.float64, device=like.device
            )
            yield _push(self, normals, q, like.dtype)


@dataclass(frozen=True)
class Widened(Law):
    r"""The posterior with its spread multiplied, :math:`\epsilon = f n`.

    A factor of 1.1 to 1.2 rarely hurts.
    """

    factor: float = 1.2

    def __post_init__(self) -> None:
        _check_positive("Widened", factor=self.factor)

    def shape(
        self, normals: Float64[Tensor, "*batch width"]
    ) -> tuple[Tensor, Float64[Tensor, "*batch"]]:
        ratio = (self.factor**2 - 1) / 2 * normals.square().sum(-1) - normals.shape[-1] * math.log(
            self.factor
        )
        return self.factor * normals, ratio


@dataclass(frozen=True)
class StudentT(Law):
    r"""The multivariate Student law with ``degrees`` :math:`\nu` of freedom and one heavy tail for all coordinates.

    .. math:: \epsilon = f n \sqrt{\nu / \chi^2_\nu}, \qquad
              r(\epsilon) \propto \bigl(1 + \|\epsilon\|^2 / (\nu f^2)\bigr)^{-(\nu + d) / 2}

    Against targets with Gaussian tails its weights are bounded. The chi-square is computed on the
    host.
    """

    degrees: float = 5.0
    factor: float = 1.0
    extra: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_positive("StudentT", degrees=self.degrees, factor=self.factor)

    def shape(
        self, normals: Float64[Tensor, "*batch width"]
    ) -> tuple[Tensor, Float64[Tensor, "*batch"]]:
        nu = self.degrees
        dim = normals.shape[-1] - 1
        uniform = torch.special.ndtr(normals[..., -1])
        chi_square = torch.as_tensor(
            2 * gammaincinv(nu / 2, uniform.cpu().numpy()), device=normals.device
        )
        eps = self.factor * normals[..., :-1] * (nu / chi_square).sqrt().unsqueeze(-1)
        square = eps.square().sum(-1)
        constant = (
            math.lgamma((nu + dim) / 2)
            - math.lgamma(nu / 2)
            - dim / 2 * math.log(nu / 2 * self.factor**2)
        )
        return eps, constant - (nu + dim) / 2 * torch.log1p(
            square / (nu * self.factor**2)
        ) + square / 2


@dataclass(frozen=True)
class Sobol:
    r"""The K draws of a datum fill one scrambled Sobol set, shifted at random modulo 1 for each datum.

    The shift alone makes every point uniform, so the weights are unbiased, and keeps the errors of
    different data uncorrelated; the scrambling mends the poor projections that the first points
    have in many dimensions.

    Points of one set repel each other, so the standard error for independent weights does not hold:
    mostly it is far too large. With ``replicates`` R the draws are R sets of K / R points, and the
    error between them is an honest one for R of 5 or more; but the fewer points a set has, the less
    they gain.
    """

    law: Law = field(default_factory=lambda: Widened(1.0))
    replicates: int = 1

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        if self.replicates < 1 or samples % self.replicates:
            raise InputError(
                f"Sobol: samples must be a multiple of replicates; got samples={samples}, "
                f"replicates={self.replicates}; round up to {-(-samples // max(1, self.replicates)) * self.replicates}"
            )
        like = q.sample()
        width = q.event_shape.numel() + self.law.extra
        for _ in range(self.replicates):
            points = SobolEngine(width, scramble=True)
            shift = torch.rand(*q.batch_shape, width, dtype=torch.float64)
            for count in _pieces(samples // self.replicates, chunk):
                u = points.draw(count, dtype=torch.float64).view(
                    count, *[1] * len(q.batch_shape), width
                )
                # The quantile at 0 and 1 is infinite; the nearest floats to them lie at -8 and 8
                # standard deviations.
                u = ((u + shift) % 1).clamp(2.0**-53, 1 - 2.0**-53)
                yield _push(self.law, torch.special.ndtri(u).to(like.device), q, like.dtype)


@dataclass(frozen=True)
class Defensive:
    r"""The mixture :math:`\alpha\, q(z \mid x) + (1 - \alpha)\, p(z)`; each draw picks its component.

    No weight exceeds :math:`p(x \mid z) / (1 - \alpha)`: their variance is finite wherever the
    likelihood is bounded, whatever the posterior missed. Any posterior will do; the draws carry no
    gradient.
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
        prior = model.prior()
        for count in _pieces(samples, chunk):
            lead = torch.Size((count, *q.batch_shape))
            ours = q.sample(torch.Size((count,)))
            others = prior.sample(lead)
            pick = torch.rand(lead, device=ours.device) < self.share
            z = torch.where(pick.view(*lead, *[1] * len(q.event_shape)), ours, others)
            near = q.log_prob(z) + math.log(self.share)
            far = prior.log_prob(z) + math.log1p(-self.share)
            yield z, torch.logaddexp(near, far)


def _push(law: Law, normals: Tensor, q: Distribution, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Shapes normals by the law and sends them through the posterior's map."""
    eps, ratio = law.shape(normals)
    z, log_q = from_noise(q, eps.to(dtype).view(*normals.shape[:-1], *q.event_shape))
    return z, log_q + ratio


def _pieces(samples: int, chunk: int) -> Iterator[int]:
    """Cut ``samples`` into pieces of at most ``chunk``.

    The last one holds what is left, not more.
    """
    for start in range(0, samples, chunk):
        yield min(chunk, samples - start)


def _check_positive(who: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(
                f"{who}: {name} must be positive and finite; got {name}={value}; 1 keeps the spread"
            )
