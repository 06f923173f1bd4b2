"""The lock of a run folder, so that only one process trains in it.

The kernel frees the lock when the process ends, however it ends.
"""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from univae.disk_errors import naming
from univae.errors import InputError

__all__ = ["LOCK", "hold_lock", "is_lock"]

LOCK = ".lock"  # the locked file in the folder; names the process that holds the lock
LONGEST_NAME = 200  # bytes of the lock file that a message quotes
NEW_FILE_MODE = 0o666  # less the bits of the umask
WORD = "process"  # with which the content of a lock file begins

# Errors of file systems without locks, on which a run folder is assumed to have one user.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    Raises:
        InputError: another process holds the lock; the message names that process.
    """
    with naming(folder, folder / LOCK):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, NEW_FILE_MODE)
    try:
        _lock(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{WORD} {os.getpid()} on {platform.node()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_lock(path: Path) -> bool:
    """Return whether a file is the lock of a folder, held or not; it is empty at first."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(LONGEST_NAME).startswith(WORD.encode()) or path.stat().st_size == 0


def _lock(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, LONGEST_NAME, 0).decode("utf-8", errors="replace").strip()
        raise InputError(
            f"{folder}: {holder or 'another process'} is training in this folder; "
            "wait for it, or stop it"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
