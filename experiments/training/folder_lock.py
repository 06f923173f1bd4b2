"""The lock of a run folder: one process trains in it, and the kernel frees the lock of a process that died."""

import errno
import os
from pathlib import Path

from univae.checkpoint import is_temporary
from univae.errors import InputError

__all__ = ["LOCK", "is_litter", "take_lock"]

LOCK = ".lock"  # held while a process trains in the folder


def take_lock(descriptor: int, folder: Path) -> None:
    """Take the lock of an open file, or raise :class:`InputError` that names who holds it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", errors="replace").strip()
        raise InputError(
            f"{folder}: {holder or 'another process'} is training in this folder; wait for it, or stop it"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def is_litter(path: Path) -> bool:
    """Return whether a file is a lock, or one that a killed process was writing."""
    return path.name == LOCK or is_temporary(path)
