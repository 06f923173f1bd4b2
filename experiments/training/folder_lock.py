"""The lock of a run folder, so that only one process trains in it.

The kernel frees the lock when the process ends, however it ends.
"""

import errno
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from univae.disk_errors import naming
from univae.errors import InputError

__all__ = ["LOCK", "hold_lock", "is_lock"]

LOCK = ".lock"  # the locked file in the folder; names the process that holds the lock
LONGEST_NAME = 200  # bytes of the lock file that a message quotes
NEW_FILE_MODE = 0o666  # less the bits of the umask
WORD = b"process"  # with which the content of a lock file begins
FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

# Errors of file systems without locks, on which a run folder is assumed to have one user.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while the block runs.

    Raises:
        InputError: another process holds the lock, and the message names it; or the file of the
            lock is another one, which stays as it is.
        OSError: the file cannot be written, and is removed; the error names the folder.
    """
    descriptor = _open_locked(folder)
    try:
        try:
            with naming(folder):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, WORD + f" {os.getpid()} on {platform.node()}\n".encode(), 0)
        except BaseException:
            with suppress(OSError):
                (folder / LOCK).unlink()
            raise
        yield
    finally:
        os.close(descriptor)


def is_lock(path: Path) -> bool:
    """Return whether a file is the lock of a folder, held or not; it is empty at first."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return _is_of_a_lock(file.read(LONGEST_NAME))


def _open_locked(folder: Path) -> int:
    """Return a descriptor of the lock file of a folder, locked.

    A process that fails to start removes the file. A lock on a removed file would exclude nobody,
    so the file is then opened again.
    """
    while True:
        descriptor = _open(folder)
        try:
            _lock(descriptor, folder)
            if _is_at(descriptor, folder / LOCK):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(folder: Path) -> int:
    """Return a descriptor of the lock file of a folder, which is created where it is missing."""
    path = folder / LOCK
    if path.is_symlink():
        raise _not_a_lock(path)
    with naming(folder, path):
        descriptor = os.open(path, FLAGS, NEW_FILE_MODE)
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if not is_file or not _is_of_a_lock(os.pread(descriptor, LONGEST_NAME, 0)):
        os.close(descriptor)
        raise _not_a_lock(path)
    return descriptor


def _is_of_a_lock(content: bytes) -> bool:
    return not content or content.startswith(WORD)


def _not_a_lock(path: Path) -> InputError:
    return InputError(
        f"{path} is not the lock of a run: it is a link, or holds something else; "
        "move it, or give another folder"
    )


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether a path is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


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
