"""Folders that a new run may start in: new or empty, but for what belongs to no other run.

That are the files of killed processes, images that were decoded, and the data in memory that a
function wrote to be read.
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from experiments.data.sources import INPUTS
from experiments.training.folder_lock import LOCK
from univae.checkpoint import is_temporary
from univae.errors import InputError
from univae.run_folder import IN_MEMORY_DATA

__all__ = [
    "IN_MEMORY_DATA",
    "new_folders",
    "remove_empty",
    "remove_start",
    "remove_temporary_files",
    "require_new_folder",
]


def require_new_folder(path: Path) -> None:
    """Raise :class:`InputError` where a path is a file, or a folder with a run or other files."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a new folder with --out")
    if (path / "config.json").exists():
        raise InputError(
            f"{path} already holds a run; continue it with --resume, or give another --out"
        )
    if path.exists() and any(not _is_residue(entry) for entry in path.iterdir()):
        raise InputError(f"{path} holds other files; give a new or empty folder with --out")


def new_folders(path: Path) -> list[Path]:
    """Return what a start of a run creates: the folder and its missing parents, the deepest first.

    A folder that holds decoded images was created by the run's own reader.
    """
    own = [path] if (path / INPUTS).exists() else []
    return own + [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_start(path: Path, created: Sequence[Path]) -> None:
    """Remove the files of a run that did not start, and the folders it ``created`` if empty.

    An empty folder of the user stays.
    """
    for entry in list(path.iterdir()) if path.is_dir() else []:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    remove_empty(created)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the deepest first, until one is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def remove_temporary_files(folder: Path) -> None:
    """Delete the files that a killed process was writing; call it with the folder's lock only."""
    for path in folder.rglob(".*.new"):
        if is_temporary(path) and path.is_file():
            path.unlink(missing_ok=True)


def _is_residue(path: Path) -> bool:
    """Return whether an entry is a lock, decoded images, data in memory, or a killed one's file."""
    return path.name in (LOCK, INPUTS, IN_MEMORY_DATA) or is_temporary(path)
