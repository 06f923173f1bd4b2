"""Wasserstein GANs whose critic is gradient-normalised, their rivals, and what is measured of both."""

from gan.audit import audit
from gan.gradient_norm import is_piecewise_linear, normalize_for_generator, normalize_gradient
from gan.networks import build
from gan.penalties import Penalties
from gan.recipe import Recipe
from gan.spectral import spectral_normalize
from gan.wgan import WGAN

__all__ = [
    "WGAN",
    "Penalties",
    "Recipe",
    "audit",
    "build",
    "is_piecewise_linear",
    "normalize_for_generator",
    "normalize_gradient",
    "spectral_normalize",
]
