"""The interface of a family of latent distributions, and the options that it reads."""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

__all__ = ["Family", "LatentOptions"]


@runtime_checkable
class LatentOptions(Protocol):
    """The options of a model that a family reads."""

    @property
    def width(self) -> int:
        """Width of the rows that a head reads."""
        ...

    @property
    def latent_width(self) -> int:
        """Width of a latent."""
        ...

    @property
    def kappa(self) -> float:
        """Concentration of a von Mises-Fisher posterior."""
        ...

    @property
    def learn_kappa(self) -> bool:
        """Whether the concentration is a weight."""
        ...

    @property
    def bn_gamma(self) -> float:
        """Scale of batch-normalised Gaussian means; 0 is off."""
        ...


class Family(ABC):
    """What a model and its commands ask about the distribution of a latent."""

    summary: ClassVar[str]

    # Whether the coordinates are independent under every distribution of the family, as free bits
    # per dimension need.
    independent_coordinates: ClassVar[bool]

    # Whether bits-back coding can send a latent: its buckets are quantiles of diagonal Gaussians.
    codable: ClassVar[bool]

    @abstractmethod
    def check(self, options: LatentOptions, who: str) -> None:
        """Raise :class:`InputError` for options that the family does not have."""

    @abstractmethod
    def posterior_head(self, options: LatentOptions) -> nn.Module:
        """Return a network from rows (*batch, width) to the posterior of a latent layer."""

    @abstractmethod
    def prior_head(self, options: LatentOptions) -> nn.Module:
        """Return a network from rows to the learned prior of a latent layer."""

    @abstractmethod
    def initialise_prior(self, head: nn.Module) -> None:
        """Set the weights of a :meth:`prior_head` after the model's have been drawn."""

    @abstractmethod
    def standard_prior(self, latent_width: int, like: Tensor) -> Distribution:
        """Return the standard prior of a latent layer, on the device of ``like``."""

    @abstractmethod
    def kl_dimensions(self, q: Distribution, p: Distribution) -> Float[Tensor, "*batch d"] | None:
        """Return KL(q || p) of each coordinate in nats, or ``None`` if they are dependent."""

    @abstractmethod
    def interpolate(
        self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"], t: Float[Tensor, "steps"]
    ) -> Float[Tensor, "steps *batch d"]:
        """Return the latents at fractions t of a path of typical latents from a to b."""

    def displaced(
        self, z: Float[Tensor, "*batch d"], step: Float[Tensor, "*#batch d"]
    ) -> Float[Tensor, "*batch d"]:
        """Return the latents nearest to z + step that the family has."""
        return z + step
