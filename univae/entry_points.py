"""Objects of higher layers by their names: entry points, so that no import points upward.

Another distribution adds an object by declaring an entry point of the group. The library's own are
also listed here, for source trees that run without being installed; ``setup.cfg`` declares the
same.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

__all__ = ["FUNCTIONS", "KINDS", "LIBRARY", "TRAINERS", "points"]

KINDS = "univae.kinds"  # kind of a run -> the class of its runs
FUNCTIONS = "univae.functions"  # functions of higher layers that runs have as methods
TRAINERS = "univae.trainers"  # command -> the function that calls it from Python

# Group -> name -> module and object.
LIBRARY: Mapping[str, Mapping[str, str]] = {
    KINDS: {
        "train-text": "univae.vae.trained:TrainedText",
        "train-density": "density.trained:TrainedDensity",
        "train-gan": "gan.trained:TrainedGan",
        "train-similar": "univae.sentence.trained:TrainedSimilar",
    },
    FUNCTIONS: {
        "push": "experiments.push:push_run",
        "score": "density.scores:score",
    },
    TRAINERS: {
        "train-text": "experiments.functions.training:TEXT",
        "train-density": "experiments.functions.training:DENSITY",
        "train-gan": "experiments.functions.training:GAN",
        "train-similar": "experiments.functions.training:SIMILAR_TEXTS",
    },
}


@cache
def points(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name: the library's own, and those installed."""
    library = {name: EntryPoint(name, value, group) for name, value in LIBRARY[group].items()}
    installed = {point.name: point for point in entry_points(group=group)}
    return {**library, **installed}
