"""The lock of a run folder, so that one process trains in it.

The kernel frees it when the process ends, however that is.
"""

import errno
import os
from pathlib import Path

from univae.checkpoint import is_temporary
from univae.errors import InputError

__all__ = ["LOCK", "is_leftover", "take_lock"]

LOCK = ".lock"  # held while a process trains in the folder


def take_lock(descriptor: int, folder: Path) -> None:
    """Take the lock of an open file.

    Raises:
        InputError: another process holds it; the message names that process.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", errors="replace").strip()
        raise InputError(
            f"{folder}: {holder or 'another process'} is training in this folder; "
            "wait for it, or stop it"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def is_leftover(path: Path) -> bool:
    """Return whether a file is a lock, or one that a killed process was writing."""
    return path.name == LOCK or is_temporary(path)
