"""Open a run folder of any kind: the classes are found by name, so that no import points upward.

The class of a kind is an entry point of the group ``univae.kinds``; another distribution adds a
kind by declaring one. The library's own kinds are also listed here, for source trees that run
without being installed.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from univae.errors import InputError
from univae.run_folder import RunFolder
from univae.trained import Trained

__all__ = ["GROUP", "LIBRARY_KINDS", "kinds", "load", "trained_class"]

GROUP = "univae.kinds"

# Kind -> the class of its runs; setup.cfg declares the same entry points.
LIBRARY_KINDS = {
    "train-text": "univae.vae.trained:TrainedText",
    "train-density": "density.trained:TrainedDensity",
    "train-gan": "gan.trained:TrainedGan",
    "train-similar": "univae.sentence.trained:TrainedSimilar",
}


def load(path: str | Path, device: str = "auto", checkpoint: str = "best") -> Trained:
    """Open a run folder of any kind.

    Args:
        path: the folder that a training command wrote with ``--out``.
        device: ``auto`` (the GPU if there is one) or the name of a device.
        checkpoint: ``best`` or ``last``.

    Raises:
        InputError: the folder is no run folder, of a kind that nothing installed opens, or damaged.
    """
    return trained_class(RunFolder.open(path)).open(path, device, checkpoint)


def trained_class(folder: RunFolder) -> type[Trained]:
    """Return the class that opens runs of the folder's kind.

    Raises:
        InputError: no installed class opens such runs.
    """
    classes = kinds()
    kind = folder.kind
    if not isinstance(kind, str) or kind not in classes:
        raise InputError(
            f"{folder.path}: config.json has command={str(kind)[:60]!r}, "
            f"and only runs of {', '.join(classes)} can be opened"
        )
    return cast("type[Trained]", classes[kind].load())


@cache
def kinds() -> dict[str, EntryPoint]:
    """Return the entry point of every kind that can be opened."""
    library = {name: EntryPoint(name, value, GROUP) for name, value in LIBRARY_KINDS.items()}
    installed = {point.name: point for point in entry_points(group=GROUP)}
    return {**library, **installed}
