"""Wasserstein GANs with gradient-normalised critics, other constraints of a critic, and metrics."""

from typing import TYPE_CHECKING

from gan.audit import audit  # a submodule has this name: imported at once
from univae._lazy import lazy_exports

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

if TYPE_CHECKING:
    from gan import metrics as metrics
    from gan import networks as networks
    from gan import normalization as normalization
    from gan.config import Recipe
    from gan.networks.registry import build
    from gan.normalization.gradient import normalize_for_generator, normalize_gradient
    from gan.normalization.module_types import is_piecewise_linear
    from gan.normalization.spectral import spectral_normalize
    from gan.penalties import Penalties
    from gan.wgan import WGAN
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "config": ["Recipe"],
            "networks.registry": ["build"],
            "normalization.gradient": ["normalize_for_generator", "normalize_gradient"],
            "normalization.module_types": ["is_piecewise_linear"],
            "normalization.spectral": ["spectral_normalize"],
            "penalties": ["Penalties"],
            "wgan": ["WGAN"],
        },
        submodules=["metrics", "networks", "normalization"],
    )
