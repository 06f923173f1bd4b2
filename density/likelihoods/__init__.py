"""Distributions of pixels and table columns, and the bits their nats are worth."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "BernoulliPixels",
    "BitsPerDim",
    "CategoricalPixels",
    "CausalPixels",
    "GaussianPixels",
    "LevelPixels",
    "LogisticPixels",
    "Output",
    "Pixels",
    "bits_per_dim",
    "dequantise",
]

if TYPE_CHECKING:
    from density.likelihoods.autoregressive import CausalPixels
    from density.likelihoods.bits import BitsPerDim, bits_per_dim, dequantise
    from density.likelihoods.head import Output, Pixels
    from density.likelihoods.laws import (
        BernoulliPixels,
        CategoricalPixels,
        GaussianPixels,
        LevelPixels,
        LogisticPixels,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "autoregressive": ["CausalPixels"],
            "bits": ["BitsPerDim", "bits_per_dim", "dequantise"],
            "head": ["Output", "Pixels"],
            "laws": [
                "BernoulliPixels",
                "CategoricalPixels",
                "GaussianPixels",
                "LevelPixels",
                "LogisticPixels",
            ],
        },
    )
