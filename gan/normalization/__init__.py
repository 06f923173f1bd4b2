"""Gradient and spectral normalisation of critics, and the module types they rely on."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "GradientNorm",
    "is_piecewise_linear",
    "is_spectral",
    "normalize_for_critic",
    "normalize_for_generator",
    "normalize_gradient",
    "spectral_normalize",
]

if TYPE_CHECKING:
    from gan.normalization.gradient import (
        GradientNorm,
        normalize_for_critic,
        normalize_for_generator,
        normalize_gradient,
    )
    from gan.normalization.module_types import is_piecewise_linear
    from gan.normalization.spectral import is_spectral, spectral_normalize
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "gradient": [
                "GradientNorm",
                "normalize_for_critic",
                "normalize_for_generator",
                "normalize_gradient",
            ],
            "module_types": ["is_piecewise_linear"],
            "spectral": ["is_spectral", "spectral_normalize"],
        },
    )
