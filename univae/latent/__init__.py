"""Distributions of latents, Gaussian, von Mises-Fisher and hierarchical; sampling and paths."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "HypersphericalUniform",
    "VonMisesFisher",
    "diagonal_gaussian",
    "log_normaliser",
    "mean_length",
]

if TYPE_CHECKING:
    from univae.latent.bessel import log_normaliser, mean_length
    from univae.latent.gaussian import diagonal_gaussian
    from univae.latent.sphere import HypersphericalUniform
    from univae.latent.spherical import VonMisesFisher
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "bessel": ["log_normaliser", "mean_length"],
            "gaussian": ["diagonal_gaussian"],
            "sphere": ["HypersphericalUniform"],
            "spherical": ["VonMisesFisher"],
        },
    )
