"""Folders that a new run may start in: new or empty, but for what a start of a run left there.

That are the files of killed processes, images that were decoded, and the data in memory that a
function wrote to be read. While a run starts, and while the files of one that did not start are
removed, its folder holds the file :data:`STARTING`: only with it, files with the names of a run's
are what a killed start left. Without it they are the user's.
A folder with a ``config.json`` holds a run, which can be resumed.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.data.outputs import RUN_FILES
from experiments.data.own_folders import is_own
from experiments.data.sources import INPUTS
from experiments.training.folder_lock import LOCK, is_lock
from univae.checkpoint import is_temporary, recover_folder, remove_folder
from univae.disk_errors import naming
from univae.errors import InputError
from univae.run_folder import IN_MEMORY_DATA
from univae.temporary_files import remove_dead

__all__ = [
    "IN_MEMORY_DATA",
    "STARTING",
    "is_startable",
    "new_folders",
    "remove_empty",
    "remove_leftovers",
    "remove_start",
    "require_new_folder",
    "starting",
]

CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
STARTING = ".starting_run"
KEPT = (LOCK, INPUTS, IN_MEMORY_DATA)  # what a new start reads
LATER = {"DONE", "report.html"}  # what only a run that has trained writes
START_FILES = (RUN_FILES - LATER - {INPUTS, CHECKPOINTS}) | {"samples", STARTING}
REPLACING = re.compile(r"\.(?P<name>.+)\.(new|old)")  # names of folders that are being replaced


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
    was_begun = (path / STARTING).is_file()
    return all(_is_residue(entry, was_begun=was_begun) for entry in path.iterdir())


def new_folders(path: Path) -> list[Path]:
    """Return what a start of a run creates: the folder and its missing parents, the deepest first.

    A folder that holds decoded images was created by the run's own reader.
    """
    own = [path] if is_own(path / INPUTS) else []
    return own + [folder for folder in (path, *path.parents) if not folder.exists()]


@contextmanager
def starting(path: Path) -> Iterator[None]:
    """Let the block write the first files of a run; remove them if it raises.

    What an earlier start left is deleted first. Enter it with the folder's lock only.

    Args:
        path: the folder, which :func:`is_startable` found to be free.
    """
    try:
        with naming(path, path / STARTING):
            (path / STARTING).touch()
        for entry in path.iterdir():
            is_kept = entry.name in (*KEPT, CHECKPOINTS, STARTING)
            if not is_kept and _is_residue(entry, was_begun=True):
                _remove(entry)
        yield
    except BaseException:
        remove_start(path, ())
        raise
    (path / STARTING).unlink()


def remove_start(path: Path, created: Sequence[Path]) -> None:
    """Remove the files of a run that did not start, and the folders it ``created`` if empty.

    Files of other names stay, and so do data in memory: who wrote them before the start removes
    them. An empty folder of the user stays. The configuration becomes the mark of a start first,
    for with it the folder would hold a run. The mark and the lock go last, by which a killed
    removal is recognised.
    """
    config = path / CONFIG
    if config.is_file():
        config.replace(path / STARTING)
    last = (STARTING, LOCK)
    entries = list(path.iterdir()) if path.is_dir() else []
    for entry in sorted(entries, key=lambda entry: (entry.name in last, entry.name == LOCK)):
        if entry.name != IN_MEMORY_DATA and _is_residue(entry, was_begun=True):
            _remove(entry)
    remove_empty(created)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the deepest first, until one is not empty; some may not exist."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


def remove_leftovers(run: Path) -> None:
    """Delete what killed processes were writing in a run folder; call it with its lock only."""
    (run / STARTING).unlink(missing_ok=True)  # killed when the start was complete
    remove_dead(list(run.rglob(".*.new")), is_locked=True)
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

    Names of a run's files say so only where a run has begun.
    """
    if path.name in (INPUTS, IN_MEMORY_DATA):
        return is_own(path)
    if path.name == LOCK:
        return is_lock(path)
    if is_temporary(path):
        return True
    if path.name == CHECKPOINTS:
        return was_begun and path.is_dir() and not any(path.iterdir())
    replaced = REPLACING.fullmatch(path.name)
    return was_begun and (replaced["name"] if replaced else path.name) in START_FILES
