r"""Pixel laws: families of distributions :math:`p(x_d \mid z)` of one pixel or column, by name.

A row of :data:`LAWS` defines the parameters of a pixel, their distribution and initial values, the
data that fit it, and whether an entropy coder can use it. A new law is one
class, in a module of its own, and one row.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution

from density.likelihoods.distributions import (
    BINARY,
    BernoulliPixels,
    CategoricalPixels,
    GaussianPixels,
    LogisticPixels,
)
from density.likelihoods.law import HasLevels, Law, LocationScale, Scaling, WholeNumbers
from density.likelihoods.student import Student

__all__ = ["LAWS", "MOST_LEVELS", "LawName"]

MOST_LEVELS = 2**24  # whole numbers that float32 holds exactly

# Distance of calibrated probabilities from 0 and 1, whose logits are infinite.
CLIPPED_PROBABILITY = 0.001

# In levels; the smallest initial deviation of a logistic, for constant pixels.
SMALLEST_DEVIATION = 0.5

# In levels; of a learned scale. The mass of a level at whose centre the mean lies is 1 to 2e-22;
# below, one pixel that is far off would cost more than all others together.
SMALLEST_LEVEL_SCALE = 0.01


class Bernoulli(Law):
    """Zeros and ones."""

    summary = "zeros and ones"
    saturated = True

    def parameter_count(self, pixels: HasLevels) -> int:
        """Return 1: the logit."""
        return 1

    def distribution(
        self, parameters: Tensor, event_dims: int, pixels: HasLevels, scaling: Scaling
    ) -> Distribution:
        """Return a Bernoulli distribution per pixel."""
        return BernoulliPixels(parameters.squeeze(-1), event_dims)

    def marginal(self, x: Tensor, pixels: HasLevels, scaling: Scaling) -> Tensor:
        """Return the logits of the means, which are clipped to [.001, .999]."""
        mean = x.mean(0).clamp(CLIPPED_PROBABILITY, 1 - CLIPPED_PROBABILITY)
        return mean.logit().unsqueeze(0)

    def refusal(self, levels: int | None, name: str) -> str:
        """Return why data of other values than zeros and ones do not fit."""
        if levels == BINARY:
            return ""
        return f"needs zeros and ones; {name} has others; choose a --binarisation"

    def levels_rule(self, levels: int) -> str:
        """Return the rule that there are two levels."""
        return "" if levels == BINARY else "2 for bernoulli"


class Categorical(WholeNumbers):
    """Levels with a probability each, unrelated to their neighbours'."""

    summary = "levels, a free probability each"
    saturated = True

    def parameter_count(self, pixels: HasLevels) -> int:
        """Return a logit for each level."""
        return pixels.levels

    def distribution(
        self, parameters: Tensor, event_dims: int, pixels: HasLevels, scaling: Scaling
    ) -> Distribution:
        """Return a categorical distribution per pixel."""
        return CategoricalPixels(parameters, event_dims)

    def marginal(self, x: Tensor, pixels: HasLevels, scaling: Scaling) -> Tensor:
        """Return the logarithms of the counts of the levels, plus one each."""
        return (_counts(x, pixels.levels) + 1).log()


class Logistic(WholeNumbers):
    """Levels under a mixture of logistics: means, log-scales and, of several, weights."""

    summary = "ordered levels under a mixture of --components logistics"

    def parameter_count(self, pixels: HasLevels) -> int:
        """Return mean and log-scale of each component, and its weight where there are several."""
        per_component = 3 if pixels.components > 1 else 2
        return pixels.components * per_component

    def distribution(
        self, parameters: Tensor, event_dims: int, pixels: HasLevels, scaling: Scaling
    ) -> Distribution:
        """Return a discretised mixture of logistics per pixel."""
        by_kind = parameters.unflatten(-1, (-1, pixels.components))
        mean, log_scale, *weight = by_kind.unbind(-2)
        means = scaling.spread[..., None] * mean
        log_scales = scaling.spread.log()[..., None] + log_scale
        log_scales = log_scales.clamp_min(math.log(SMALLEST_LEVEL_SCALE))
        weights = weight[0] if weight else torch.zeros_like(means)
        return LogisticPixels(means, log_scales, weights, event_dims, pixels.levels)

    def marginal(self, x: Tensor, pixels: HasLevels, scaling: Scaling) -> Tensor:
        """Return mean and deviation of the rows, the components side by side."""
        mean = x.mean(0)
        deviation = x.std(0, correction=0)
        components = pixels.components

        grid = torch.linspace(-1, 1, components + 2, dtype=mean.dtype, device=mean.device)
        offset = grid[1:-1].view(-1, *[1] * mean.dim())
        means = (mean + offset * deviation) / scaling.spread

        # a logistic of scale s has the deviation pi s / sqrt 3
        least = deviation.clamp_min(SMALLEST_DEVIATION)
        log_scale = (least * math.sqrt(3) / math.pi / scaling.spread).log().expand_as(means)
        parameters = torch.cat([means, log_scale, torch.zeros_like(means)])
        return parameters[: self.parameter_count(pixels)]


class Gaussian(LocationScale):
    """Real numbers: parameters are mean and log-scale, in deviations of the data."""

    summary = "real numbers"

    def distribution(
        self, parameters: Tensor, event_dims: int, pixels: HasLevels, scaling: Scaling
    ) -> Distribution:
        """Return a normal distribution per pixel, in the unit of the data."""
        mean, scale = self.location_and_scale(parameters, scaling)
        return GaussianPixels(mean, scale, event_dims)


LAWS: Mapping[str, Law] = {
    "bernoulli": Bernoulli(),
    "categorical": Categorical(),
    "logistic": Logistic(),
    "gaussian": Gaussian(),
    "student": Student(),
}

if TYPE_CHECKING:
    LawName: TypeAlias = str
else:
    LawName = Literal[tuple(LAWS)]


def _counts(x: Tensor, levels: int) -> Tensor:
    """Return the counts of each level at each pixel, (levels, *event)."""
    flat = x.flatten(1).long()
    cell = flat + levels * torch.arange(flat.shape[1], device=x.device)
    counts = torch.bincount(cell.flatten(), minlength=levels * flat.shape[1])
    return counts.view(*x.shape[1:], levels).movedim(-1, 0)
