"""Distributions of images and table rows, their registry, and bits per dimension."""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "LAWS",
    "BernoulliPixels",
    "BitsPerDim",
    "CategoricalPixels",
    "CausalPixels",
    "GaussianPixels",
    "Law",
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
    from density.likelihoods.distributions import (
        BernoulliPixels,
        CategoricalPixels,
        GaussianPixels,
        LevelPixels,
        LogisticPixels,
    )
    from density.likelihoods.head import Output, Pixels
    from density.likelihoods.law import Law
    from density.likelihoods.laws import LAWS
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "autoregressive": ["CausalPixels"],
            "bits": ["BitsPerDim", "bits_per_dim", "dequantise"],
            "distributions": [
                "BernoulliPixels",
                "CategoricalPixels",
                "GaussianPixels",
                "LevelPixels",
                "LogisticPixels",
            ],
            "head": ["Output", "Pixels"],
            "law": ["Law"],
            "laws": ["LAWS"],
        },
    )
