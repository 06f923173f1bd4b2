"""Open a run folder of any kind: the classes are found by name, so that no import points upward.

The class of a kind is an entry point of the group ``univae.kinds``, see
:mod:`univae.entry_points`; another distribution adds a kind by declaring one.
"""

import os
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import cast

from univae.entry_points import KINDS, LIBRARY, points
from univae.errors import InputError
from univae.run_folder import RunFolder
from univae.trained import Trained

__all__ = ["GROUP", "LIBRARY_KINDS", "kinds", "load", "trained_class"]

GROUP = KINDS
LIBRARY_KINDS = LIBRARY[KINDS]


def load(path: str | Path, device: str = "auto", checkpoint: str = "best") -> Trained:
    """Open a run folder of any kind.

    The run stays usable where the working directory changes: its ``path`` is absolute.

    Args:
        path: the folder that a training command wrote with ``--out``.
        device: ``auto`` (the GPU if there is one) or the name of a device.
        checkpoint: ``best`` or ``last``.

    Raises:
        InputError: the folder is no run folder, of a kind that nothing installed opens, or damaged.
    """
    if not isinstance(path, str | os.PathLike):
        opened = "; it is open already" if isinstance(path, Trained) else ""
        raise InputError(
            f"load: path must be the path of a run folder; got {type(path).__name__}{opened}"
        )
    folder = RunFolder.open(path)
    return trained_class(folder).open(folder.path.absolute(), device, checkpoint)


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


def kinds() -> dict[str, EntryPoint]:
    """Return the entry point of every kind that can be opened."""
    return points(KINDS)
