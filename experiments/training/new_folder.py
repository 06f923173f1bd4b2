"""Folders that a new run may start in: new or empty, but for what belongs to no other run.

That are the files of killed processes, images that were decoded, and the data in memory that a
function wrote to be read.
"""

from pathlib import Path

from experiments.data.sources import INPUTS
from experiments.training.folder_lock import LOCK
from univae.checkpoint import is_temporary
from univae.errors import InputError

__all__ = ["IN_MEMORY_DATA", "remove_temporary_files", "require_new_folder"]

# The folder of a run with the data that a function was given in memory, so that it can be resumed.
IN_MEMORY_DATA = "in_memory_data"


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


def remove_temporary_files(folder: Path) -> None:
    """Delete the files that a killed process was writing; call it with the folder's lock only."""
    for path in folder.rglob(".*.new"):
        if is_temporary(path) and path.is_file():
            path.unlink(missing_ok=True)


def _is_residue(path: Path) -> bool:
    """Return whether an entry is a lock, decoded images, data in memory, or a killed one's file."""
    return path.name in (LOCK, INPUTS, IN_MEMORY_DATA) or is_temporary(path)
