"""Atomic replacement of files and folders, also under power failures.

A file is written under a temporary name in the same folder, forced to the disk (fsync) and renamed.
The next writer of the same name deletes what a killed one left. Errors of the disk name the path
that is to be replaced.

A folder cannot be replaced in one rename: :func:`replacing_folder` moves the old folder aside,
renames the new one, and then deletes the old one. If the machine stops between the two renames,
:func:`existing_folder` returns the old folder.

These functions overwrite: they are for the files of run folders and caches, not for results whose
paths a user chooses.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from univae.disk_errors import naming
from univae.temporary_files import (
    is_temporary,
    remove_dead_beside,
    remove_folder,
    temporary_beside,
)

__all__ = [
    "existing_folder",
    "is_temporary",
    "recover_folder",
    "remove_folder",
    "replacing_file",
    "replacing_folder",
    "sync",
    "sync_tree",
    "write_text_atomic",
]

WITHOUT_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EROFS)  # errors of file systems without fsync


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write UTF-8 text without changing its line ends.

    A reader of ``path`` gets the whole old text or the whole new one.
    """
    with replacing_file(Path(path)) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` when the block ends.

    If the block raises, the temporary file is deleted and ``path`` stays as it was.

    Raises:
        OSError: the disk is full, the folder is gone ...; the error names ``path``.
    """
    temporary = temporary_beside(path)
    remove_dead_beside(path)
    try:
        with naming(path, temporary):
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # some writers create files that only their owner can read
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        with suppress(OSError):  # it does not exist, or the folder has become read-only
            temporary.unlink()


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``path``, with all its contents, when the block ends.

    If the block raises, the new folder is deleted and ``path`` stays as it was.

    Raises:
        OSError: the disk is full, the folder of ``path`` is gone ...; the error names ``path``.
    """
    path = Path(path)
    new = _new_name(path)
    shutil.rmtree(new, ignore_errors=True)
    try:
        with naming(path, new):
            new.mkdir()
            yield new
            sync_tree(new)
            _replace(path, new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def recover_folder(path: Path) -> None:
    """Complete or undo what a killed process left of a :func:`replacing_folder` of ``path``."""
    old = _old_name(path)
    if not path.is_dir() and old.is_dir():
        old.rename(path)
    for leftover in (old, _new_name(path)):
        shutil.rmtree(leftover, ignore_errors=True)


def _replace(path: Path, new: Path) -> None:
    old = _old_name(path)
    # If ``path`` is missing, ``old`` may be the only complete folder: delete it after the rename.
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    sync(path.parent)  # the new name is on the disk before the old folder is deleted
    shutil.rmtree(old, ignore_errors=True)


def existing_folder(path: str | Path) -> Path | None:
    """Return the folder that :func:`replacing_folder` last completed for ``path``, or ``None``."""
    path = Path(path)
    return next((folder for folder in (path, _old_name(path)) if folder.is_dir()), None)


def sync(path: Path) -> None:
    """Force a file, or the list of names of a folder, from the operating system to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # a system whose folders cannot be opened, or a file without read permission
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in WITHOUT_FSYNC:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force a folder and everything in it to the disk."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def _old_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _new_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
