"""Folders that a new run may start in: new or empty, but for what a start of a run left there.

That are the files of killed processes, images that were decoded, and the data in memory that a
function wrote to be read; and, where a start was killed while its files were removed, some of them.
A folder with a ``config.json`` holds a run, which can be resumed.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from experiments.data.outputs import RUN_FILES
from experiments.data.sources import INPUTS
from experiments.training.folder_lock import LOCK, is_lock
from univae.checkpoint import is_temporary, recover_folder, remove_folder
from univae.errors import InputError
from univae.run_folder import IN_MEMORY_DATA
from univae.temporary_files import remove_dead

__all__ = [
    "IN_MEMORY_DATA",
    "is_startable",
    "new_folders",
    "remove_empty",
    "remove_leftovers",
    "remove_residue",
    "remove_start",
    "require_new_folder",
]

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
KEPT = (LOCK, INPUTS, IN_MEMORY_DATA)  # what a new start reads


def require_new_folder(path: Path) -> None:
    """Raise :class:`InputError` where a path is a file, or a folder with a run or other files."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a new folder with --out")
    if (path / CONFIG).exists():
        raise InputError(
            f"{path} already holds a run; continue it with --resume, or give another --out"
        )
    if not is_startable(path):
        raise InputError(f"{path} holds other files; give a new or empty folder with --out")


def is_startable(path: Path) -> bool:
    """Return whether a new run may start in a folder, which may not exist yet."""
    if not path.exists():
        return True
    if not path.is_dir() or (path / CONFIG).exists():
        return False
    was_begun = is_lock(path / LOCK)
    return all(_is_residue(entry, was_begun=was_begun) for entry in path.iterdir())


def new_folders(path: Path) -> list[Path]:
    """Return what a start of a run creates: the folder and its missing parents, the deepest first.

    A folder that holds decoded images was created by the run's own reader.
    """
    own = [path] if (path / INPUTS).exists() else []
    return own + [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_start(path: Path, created: Sequence[Path]) -> None:
    """Remove the files of a run that did not start, and the folders it ``created`` if empty.

    An empty folder of the user stays. The configuration goes first, for with it the folder would
    hold a run, and the lock last, by which a killed removal is recognised.
    """
    entries = list(path.iterdir()) if path.is_dir() else []
    for entry in sorted(entries, key=lambda entry: (entry.name == LOCK, entry.name != CONFIG)):
        _remove(entry)
    remove_empty(created)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the deepest first, until one is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def remove_residue(folder: Path) -> None:
    """Delete what an earlier start left in a folder that :func:`is_startable` found to be free.

    Call it with the folder's lock only.
    """
    for entry in folder.iterdir():
        if entry.name not in (*KEPT, CHECKPOINTS):
            _remove(entry)


def remove_leftovers(run: Path) -> None:
    """Delete what killed processes were writing in a run folder; call it with its lock only."""
    remove_dead(list(run.rglob(".*.new")))
    checkpoints = run / CHECKPOINTS
    for pattern in (".*.new", ".*.old"):
        for hidden in list(checkpoints.glob(pattern)):
            name = hidden.name.removeprefix(".").removesuffix(hidden.suffix)
            if not is_temporary(hidden):
                recover_folder(checkpoints / name)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        remove_folder(entry)
    else:
        entry.unlink(missing_ok=True)


def _is_residue(path: Path, *, was_begun: bool) -> bool:
    """Return whether an entry was left by a start of a run.

    Names of a run's files say so only where a run has begun, which its lock shows.
    """
    if path.name in KEPT or is_temporary(path):
        return True
    if path.name == CHECKPOINTS:
        return was_begun and not any(path.iterdir())
    return was_begun and path.name in RUN_FILES | {"samples"}
