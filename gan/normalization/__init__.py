"""Gradient and spectral normalisation of critics, and the module types they rely on."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "NORMALIZATIONS",
    "SPECTRAL_NORMS",
    "GradientNorm",
    "Score",
    "is_piecewise_linear",
    "is_spectral",
    "normalize_for_critic",
    "normalize_for_generator",
    "normalize_gradient",
    "spectral_normalize",
]

if TYPE_CHECKING:
    from gan.normalization.gradient import (
        normalize_for_critic,
        normalize_for_generator,
        normalize_gradient,
    )
    from gan.normalization.module_types import is_piecewise_linear
    from gan.normalization.rules import NORMALIZATIONS, GradientNorm
    from gan.normalization.score import Score
    from gan.normalization.spectral import SPECTRAL_NORMS, is_spectral, spectral_normalize
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "gradient": ["normalize_for_critic", "normalize_for_generator", "normalize_gradient"],
            "module_types": ["is_piecewise_linear"],
            "rules": ["NORMALIZATIONS", "GradientNorm"],
            "score": ["Score"],
            "spectral": ["SPECTRAL_NORMS", "is_spectral", "spectral_normalize"],
        },
    )
