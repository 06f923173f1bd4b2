r"""Distances between two sets of rows or features, and measures of collapse and of memorisation.

All functions take points (N, D), features of images for instance, and compute in float64. A value
is only meaningful with the name of the feature space, the floor (real against real rows) and the
response to known faults. Shuffle before using a subset of a file: files are often sorted by class.
"""

from typing import TYPE_CHECKING

from univae._lazy import lazy_exports

__all__ = [
    "Classes",
    "Manifold",
    "Memory",
    "Modes",
    "Moments",
    "SubsetDistance",
    "class_coverage",
    "exact_wasserstein",
    "frechet_distance",
    "frechet_distance_of_moments",
    "kernel_distance",
    "kernel_distance_of_subsets",
    "memorisation",
    "mode_coverage",
    "moments",
    "nearest",
    "prdc",
    "sliced_wasserstein",
]

if TYPE_CHECKING:
    from gan.metrics.classes import Classes, Modes, class_coverage, mode_coverage
    from gan.metrics.distances import (
        SubsetDistance,
        frechet_distance,
        kernel_distance,
        kernel_distance_of_subsets,
    )
    from gan.metrics.gaussians import Moments, frechet_distance_of_moments, moments
    from gan.metrics.neighbours import Manifold, Memory, memorisation, nearest, prdc
    from gan.metrics.transport import exact_wasserstein, sliced_wasserstein
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "classes": ["Classes", "Modes", "class_coverage", "mode_coverage"],
            "distances": [
                "SubsetDistance",
                "frechet_distance",
                "kernel_distance",
                "kernel_distance_of_subsets",
            ],
            "gaussians": ["Moments", "frechet_distance_of_moments", "moments"],
            "neighbours": ["Manifold", "Memory", "memorisation", "nearest", "prdc"],
            "transport": ["exact_wasserstein", "sliced_wasserstein"],
        },
    )
