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
    "class_coverage",
    "exact_wasserstein",
    "frechet_distance",
    "kernel_distance",
    "memorisation",
    "mode_coverage",
    "nearest",
    "prdc",
    "sliced_wasserstein",
]

if TYPE_CHECKING:
    from gan.metrics.classes import Classes, Modes, class_coverage, mode_coverage
    from gan.metrics.distances import frechet_distance, kernel_distance
    from gan.metrics.neighbours import Manifold, Memory, memorisation, nearest, prdc
    from gan.metrics.transport import exact_wasserstein, sliced_wasserstein
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "classes": ["Classes", "Modes", "class_coverage", "mode_coverage"],
            "distances": ["frechet_distance", "kernel_distance"],
            "neighbours": ["Manifold", "Memory", "memorisation", "nearest", "prdc"],
            "transport": ["exact_wasserstein", "sliced_wasserstein"],
        },
    )
