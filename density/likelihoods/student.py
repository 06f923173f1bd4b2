r"""Student-t pixels: real numbers with outliers.

.. math:: p(x_d \mid z) = \frac{1}{s_d}\, t_\nu\Bigl(\frac{x_d - \mu_d}{s_d}\Bigr), \qquad
          t_\nu(u) \propto \bigl(1 + u^2 / \nu\bigr)^{-(\nu + 1) / 2}

An outlier costs the logarithm of its distance, where under a Gaussian it costs the square.

References:
    Robust Statistical Modeling Using the t Distribution (Lange et al., 1989),
    https://doi.org/10.1080/01621459.1989.10478852
"""

import math
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, StudentT

from density.likelihoods.distributions import Nats
from density.likelihoods.law import HasLevels, LocationScale, Scaling
from density.likelihoods.values import standardised
from univae.dtypes import at_least_float32

__all__ = ["Student", "StudentPixels"]

# Of freedom, fixed: a learned number is poorly determined by a few hundred rows.
DEGREES = 4.0

LOG_CONSTANT = (
    math.lgamma((DEGREES + 1) / 2) - math.lgamma(DEGREES / 2) - math.log(DEGREES * math.pi) / 2
)

if TYPE_CHECKING:
    IndependentStudent: TypeAlias = Independent[StudentT]
else:
    IndependentStudent = Independent  # which older versions of torch cannot subscript


class StudentPixels(IndependentStudent):
    r"""Independent real numbers :math:`\mu_d + s_d u`, u of Student's distribution."""

    nats: ClassVar[Nats] = "density"

    def __init__(self, location: Tensor, scale: Tensor, event_dims: int) -> None:
        pixels = StudentT(
            DEGREES, at_least_float32(location), at_least_float32(scale), validate_args=False
        )
        super().__init__(pixels, event_dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats, finite for every distance that the dtype holds."""
        u = standardised(self.base_dist, value)
        tail = _log_one_plus_square(u / math.sqrt(DEGREES))
        log_pixels = LOG_CONSTANT - (DEGREES + 1) / 2 * tail - self.base_dist.scale.log()
        return log_pixels.sum(tuple(range(-len(self.event_shape), 0)))


class Student(LocationScale):
    """Real numbers with heavy tails of 4 degrees of freedom."""

    summary = "real numbers with outliers (Student-t)"

    def distribution(
        self, parameters: Tensor, event_dims: int, pixels: HasLevels, scaling: Scaling
    ) -> Distribution:
        """Return a Student-t distribution per pixel, in the unit of the data."""
        location, scale = self.location_and_scale(parameters, scaling)
        return StudentPixels(location, scale, event_dims)

    def marginal(self, x: Tensor, pixels: HasLevels, scaling: Scaling) -> Tensor:
        """Return location 0 and the log-scale at which the deviation is that of the rows."""
        parameters = super().marginal(x, pixels, scaling)
        parameters[1] = math.log(1 - 2 / DEGREES) / 2  # the variance is s^2 nu / (nu - 2)
        return parameters


def _log_one_plus_square(r: Tensor) -> Tensor:
    r"""Return :math:`\log(1 + r^2)`, as :math:`2 \log |r| + \log(1 + r^{-2})` beyond 1."""
    distance = r.abs()
    is_far = distance > 1
    near = torch.where(is_far, 0.0, distance)
    far = torch.where(is_far, distance, 1.0)
    beyond = 2 * far.log() + torch.log1p(far.pow(-2))
    return torch.where(is_far, beyond, torch.log1p(near.square()))
