"""Folders that a new run may start in: new, empty, or with files of earlier attempts only."""

from pathlib import Path

from experiments.data.sources import INPUTS
from experiments.training.folder_lock import LOCK
from univae.checkpoint import is_temporary
from univae.errors import InputError

__all__ = ["remove_temporary_files", "require_new_folder"]


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
    """Return whether an earlier attempt left a lock, decoded images, or a file it was writing."""
    return path.name in (LOCK, INPUTS) or is_temporary(path)
