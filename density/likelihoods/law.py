r"""The interface of a pixel law: distributions :math:`p(x_d \mid z)` by their parameters."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from density.likelihoods.distributions import Nats

__all__ = ["HasLevels", "Law", "LocationScale", "Scaling", "WholeNumbers"]

# In deviations of the data: a constant column would have no finite density.
SMALLEST_SCALE = 1e-3
LARGEST_LOG_SCALE = 30.0  # in deviations of the data: one outlier would overflow the exponential


@runtime_checkable
class HasLevels(Protocol):
    """The fields of :class:`density.likelihoods.head.Pixels` that a law uses."""

    @property
    def levels(self) -> int:
        """The number of levels of whole numbers."""
        ...

    @property
    def components(self) -> int:
        """The number of components of a mixture."""
        ...


class Scaling(NamedTuple):
    """The affine map (x - centre) / spread between data and networks, each (\\*event)."""

    centre: Tensor
    spread: Tensor


class Law(ABC):
    r"""A family of distributions of a pixel; by default of whole numbers 0..levels-1.

    Parameters are (\*batch, \*event, parameters), in the unit of ``scaling``.
    """

    summary: ClassVar[str]
    nats: ClassVar[Nats] = "mass"
    # Whether the law has parameters for every distribution over the levels, as a vocabulary needs.
    saturated: ClassVar[bool] = False
    # Why an entropy coder has no frequencies for its values; empty if it has.
    uncodable: ClassVar[str] = ""

    @abstractmethod
    def parameter_count(self, pixels: HasLevels) -> int:
        """Return the number of parameters of one pixel."""

    @abstractmethod
    def distribution(
        self, parameters: Tensor, event_dims: int, pixels: HasLevels, scaling: Scaling
    ) -> Distribution:
        """Return the distribution of ``event_dims`` axes of pixels that have ``parameters``."""

    @abstractmethod
    def marginal(self, x: Tensor, pixels: HasLevels, scaling: Scaling) -> Tensor:
        r"""Return parameters (parameters, \*event) at the marginals of the rows x (N, \*event)."""

    @abstractmethod
    def refusal(self, levels: int | None, name: str) -> str:
        """Return why data of ``levels`` (None: real numbers) do not fit the law, or nothing."""

    def levels_rule(self, levels: int) -> str:
        """Return the rule for the number of levels, or nothing if ``levels`` satisfies it."""
        return ""

    def level_count(self, pixels: HasLevels) -> int | None:
        """Return the number of levels, each with a probability; None: real numbers."""
        return pixels.levels

    def spread(self, pixels: HasLevels) -> float:
        """Return the initial spread of data: levels are scaled to [0, 1]."""
        return float(pixels.levels - 1)

    def scaling(self, x: Tensor, initial: Scaling) -> Scaling:
        r"""Return the scaling for rows x (N, \*event); that of levels does not depend on them."""
        return initial

    def feature_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the input of an encoder for a row of ``shape``."""
        return shape

    def features(self, x: Tensor, scaling: Scaling) -> Tensor:
        r"""Return rows (\*batch, \*event) as the input of an encoder."""
        return (x - scaling.centre) / scaling.spread


class WholeNumbers(Law):
    """A law of two or more levels."""

    def refusal(self, levels: int | None, name: str) -> str:
        """Return why real numbers do not fit."""
        if levels is not None:
            return ""
        return f"needs whole numbers; {name} has real ones; choose gaussian"


class LocationScale(Law):
    """A law of real numbers: parameters are location and log-scale, in deviations of the data."""

    nats = "density"
    uncodable = "gives a density, which has no frequencies to code with"

    def parameter_count(self, pixels: HasLevels) -> int:
        """Return 2: location and log-scale."""
        return 2

    def location_and_scale(self, parameters: Tensor, scaling: Scaling) -> tuple[Tensor, Tensor]:
        """Return the location and the scale of every pixel, in the unit of the data."""
        location, log_scale = parameters.unbind(-1)
        scale = SMALLEST_SCALE + log_scale.clamp_max(LARGEST_LOG_SCALE).exp()
        return scaling.centre + scaling.spread * location, scaling.spread * scale

    def marginal(self, x: Tensor, pixels: HasLevels, scaling: Scaling) -> Tensor:
        """Return zeros: mean and deviation of the rows are in the scaling."""
        return x.new_zeros(self.parameter_count(pixels), *x.shape[1:])

    def refusal(self, levels: int | None, name: str) -> str:
        """Return nothing: whole numbers are real ones."""
        return ""

    def level_count(self, pixels: HasLevels) -> int | None:
        """Return None: real numbers have a density."""
        return None

    def spread(self, pixels: HasLevels) -> float:
        """Return 1, the unit of the data."""
        return 1.0

    def scaling(self, x: Tensor, initial: Scaling) -> Scaling:
        """Return mean and deviation of every pixel; a constant one has the deviation 1."""
        # float64: the squares of numbers above 1e19 are beyond float32
        mean = x.double().mean(0)
        deviation = x.double().std(0, correction=0)
        return Scaling(mean, torch.where(deviation > 0, deviation, 1.0))
