"""The registry of families of latent distributions, ``FAMILIES``.

A new family is a module with a subclass of :class:`univae.latent.family.Family`, and a row of
``FAMILIES``.
"""

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence

from univae.dtypes import computation_dtype
from univae.errors import InputError
from univae.latent.family import Family, LatentOptions
from univae.latent.gaussian import diagonal_gaussian
from univae.latent.heads import GaussianHead, VonMisesFisherHead
from univae.latent.interpolation import lerp, slerp
from univae.latent.sphere import HypersphericalUniform

__all__ = ["FAMILIES", "FamilyName", "Gaussian", "Spherical"]


class Gaussian(Family):
    """Diagonal Gaussians, with the standard normal prior."""

    summary = "independent normal coordinates"
    independent_coordinates = True
    codable = True

    def check(self, options: LatentOptions, who: str) -> None:
        """Refuse a learned concentration."""
        if options.learn_kappa:
            raise InputError(f"{who}: learn_kappa needs latent='vmf'; got latent='gaussian'")

    def posterior_head(self, options: LatentOptions) -> nn.Module:
        """Return a :class:`GaussianHead`, batch-normalised with ``bn_gamma``."""
        return GaussianHead(options.width, options.latent_width, options.bn_gamma)

    def prior_head(self, options: LatentOptions) -> nn.Module:
        """Return a :class:`GaussianHead`."""
        return GaussianHead(options.width, options.latent_width)

    def initialise_prior(self, head: nn.Module) -> None:
        """Start a learned prior as the standard one."""
        assert isinstance(head, GaussianHead)
        nn.init.zeros_(head.linear.weight)

    def standard_prior(self, latent_width: int, like: Tensor) -> Distribution:
        """Return the standard normal distribution, in at least float32."""
        zeros = torch.zeros(latent_width, dtype=computation_dtype(like), device=like.device)
        return diagonal_gaussian(zeros, torch.ones_like(zeros))

    def kl_dimensions(self, q: Distribution, p: Distribution) -> Float[Tensor, "*batch d"]:
        """Return the KL of each coordinate, whose sum is that of the latent."""
        assert isinstance(q, Independent)
        assert isinstance(p, Independent)
        return kl_divergence(q.base_dist, p.base_dist)

    def interpolate(
        self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"], t: Float[Tensor, "steps"]
    ) -> Float[Tensor, "steps *batch d"]:
        """Return points of the straight line from a to b."""
        return lerp(a, b, t)


class Spherical(Family):
    """Von Mises-Fisher posteriors on the unit sphere, with the uniform prior."""

    summary = "von Mises-Fisher on the unit sphere, whose KL cannot vanish"
    independent_coordinates = False
    codable = False

    INITIAL_PRIOR_KAPPA = 1.0  # of a learned prior, which starts nearly uniform
    SMALLEST_WIDTH = 2

    def check(self, options: LatentOptions, who: str) -> None:
        """Refuse batch-normalised means and a latent of one coordinate."""
        if options.bn_gamma or options.latent_width < self.SMALLEST_WIDTH:
            raise InputError(
                f"{who}: a vmf latent lies on a sphere (latent_width >= 2) and has no mean to "
                f"batch-normalise; got latent_width={options.latent_width}, "
                f"bn_gamma={options.bn_gamma}"
            )

    def posterior_head(self, options: LatentOptions) -> nn.Module:
        """Return a :class:`VonMisesFisherHead` with the concentration of the options."""
        return VonMisesFisherHead(
            options.width, options.latent_width, options.kappa, learned=options.learn_kappa
        )

    def prior_head(self, options: LatentOptions) -> nn.Module:
        """Return a :class:`VonMisesFisherHead` with a learned concentration."""
        return VonMisesFisherHead(
            options.width, options.latent_width, self.INITIAL_PRIOR_KAPPA, learned=True
        )

    def initialise_prior(self, head: nn.Module) -> None:
        """Leave the random weights: no mean direction gives the uniform distribution."""

    def standard_prior(self, latent_width: int, like: Tensor) -> Distribution:
        """Return the uniform distribution on the sphere, in at least float32."""
        return HypersphericalUniform(
            latent_width, dtype=computation_dtype(like), device=like.device
        )

    def kl_dimensions(self, q: Distribution, p: Distribution) -> None:
        """Return ``None``: coordinates of unit vectors depend on each other."""

    def interpolate(
        self, a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"], t: Float[Tensor, "steps"]
    ) -> Float[Tensor, "steps *batch d"]:
        """Return points of the great circle from a to b."""
        return slerp(a, b, t)

    def displaced(
        self, z: Float[Tensor, "*batch d"], step: Float[Tensor, "*#batch d"]
    ) -> Float[Tensor, "*batch d"]:
        """Return z + step at length 1."""
        return nn.functional.normalize(z + step, dim=-1)


FAMILIES: dict[str, Family] = {"gaussian": Gaussian(), "vmf": Spherical()}

if TYPE_CHECKING:
    FamilyName: TypeAlias = str
else:
    FamilyName = Literal[tuple(FAMILIES)]
