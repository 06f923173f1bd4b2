r"""Proposals of importance sampling: posterior, quasi-random points, mixture with the prior.

Where a posterior maps normal noise to its draws, :class:`Sobol` draws the noise from evenly spread
points; see :mod:`density.estimation.noise_laws` for other distributions of the noise. The weights
of all proposals are unbiased.

References:
    Weighted Average Importance Sampling and Defensive Mixture Distributions (Hesterberg, 1995)
    Randomization of Number Theoretic Methods for Multiple Integration (Cranley & Patterson, 1976)
    Monte Carlo theory, methods and examples (Owen, 2013), chapters 9 and 17,
    https://artowen.su.domains/mc/
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.quasirandom import SobolEngine

from density.estimation.diagnostics import group_sizes
from density.estimation.noise_laws import Law, StudentT, Widened, draws_from
from density.estimation.proposal import Draws, Proposal, chunk_sizes
from density.estimation.streams import own_draws, shared_seed
from density.model import LatentModel, draw_prior
from univae.errors import InputError
from univae.latent.sampling import draw

__all__ = ["Defensive", "Draws", "Law", "Posterior", "Proposal", "Sobol", "StudentT", "Widened"]

# The normal quantile at 0 is infinite; here it is about -8 standard deviations.
SMALLEST_UNIFORM = 2.0**-53


@dataclass(frozen=True)
class Posterior:
    """The posterior without changes."""

    replicates: ClassVar[int] = 1

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum of the posterior."""
        for count in chunk_sizes(samples, chunk):
            with own_draws(x, "posterior"):
                drawn = draw(q, count)
            yield drawn


@dataclass(frozen=True)
class Sobol:
    r"""The K draws of a datum are scrambled Sobol sets, each shifted at random modulo 1.

    A shift, one for each datum, makes every point uniform, so the weights are unbiased, and keeps
    the errors of different data uncorrelated; the scrambling avoids the poor projections of the
    first points in many dimensions.

    Points of one set are negatively dependent, so the standard error for independent weights is
    invalid, mostly far too large. With ``replicates`` R the draws are R independent sets, whose
    sizes differ by one at most, and the error is that between the sets. Two standard errors cover
    the truth with the probability of Student's t with R - 1 degrees of freedom: 0.70 for R = 2,
    0.88 for 5, 0.91 for 8, 0.94 for 16 and 0.95 for 32. Fewer and larger sets are more precise.

    Raises:
        InputError: ``replicates`` is less than 1.
    """

    law: Law = field(default_factory=lambda: Widened(1.0))
    replicates: int = 16

    def __post_init__(self) -> None:
        if self.replicates < 1:
            raise InputError(
                f"Sobol: replicates must be at least 1; got replicates={self.replicates}; "
                "16 gives an honest standard error"
            )

    def draws(
        self, model: LatentModel, x: Tensor, q: Distribution, samples: int, chunk: int
    ) -> Draws:
        """Yield ``samples`` draws a datum, set by set."""
        like = q.sample()
        width = q.event_shape.numel() + self.law.extra
        for i, size in enumerate(group_sizes(samples, self.replicates)):
            points = SobolEngine(width, scramble=True, seed=shared_seed("sobol", i))
            with own_draws(x, f"shift {i}", axis=0):
                shift = torch.rand(*q.batch_shape, width, dtype=torch.float64)
            for count in chunk_sizes(size, chunk):
                batch_dims = [1] * len(q.batch_shape)
                uniforms = points.draw(count, dtype=torch.float64).view(count, *batch_dims, width)
                uniforms = (uniforms + shift) % 1
                uniforms = uniforms.clamp(SMALLEST_UNIFORM, 1 - SMALLEST_UNIFORM)
                normals = torch.special.ndtri(uniforms).to(like.device)
                yield draws_from(self.law, normals, q, like.dtype)


@dataclass(frozen=True)
class Defensive:
    r"""The mixture :math:`\alpha\, q(z \mid x) + (1 - \alpha)\, p(z)` of posterior and prior.

    No weight exceeds :math:`p(x \mid z) / (1 - \alpha)`: their variance is finite wherever the
    likelihood is bounded, even where the posterior vanishes. Any posterior is allowed; the draws
    have no gradient.

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
        for count in chunk_sizes(samples, chunk):
            shape = torch.Size((count, *q.batch_shape))
            with own_draws(x, "defensive"):
                from_posterior = q.sample(torch.Size((count,)))
                from_prior = draw_prior(prior, count, q.batch_shape)
                picks = torch.rand(shape, device=from_posterior.device) < self.share
            z = torch.where(picks.view(*shape, *event_dims), from_posterior, from_prior)
            log_q = q.log_prob(z) + math.log(self.share)
            log_p = prior.log_prob(z) + math.log1p(-self.share)
            yield z, torch.logaddexp(log_q, log_p)
