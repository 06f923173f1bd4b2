"""Errors of the disk, which name the path that a user knows and say what happened.

A full disk, a quota, a read-only or a removed folder reach a program as many kinds of exception:
libraries that write files by themselves raise errors of their own, and others lose the number of
the error. Files are written under temporary names, of which no user knows.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from univae.errors import InputError

__all__ = ["DISK_ERRORS", "naming", "reserve"]

# Numbers of errors that come from the disk, also where no path is known.
DISK_ERRORS = frozenset(
    [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE]
)

RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # in messages of safetensors
PROBE = bytes(2**16)  # what is written to find out why a library could not write


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Raise errors of the disk within the block as :class:`OSError` with ``path`` as its file.

    Args:
        path: the file or folder that the block writes.
        temporary: the file or folder that is written in its place. Errors of other files are
            raised as they are.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        number = _number(error, temporary or path)
        if number is None and temporary is not None and not _has_number(error):
            number = _probe(temporary)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), os.fspath(path)) from error


def reserve(path: Path, size: int) -> None:
    """Let a file have ``size`` bytes that are on the disk.

    A file that is mapped into memory needs it: where the disk is full, writing to the memory would
    end the process by a signal (SIGBUS).

    Raises:
        OSError: there is no space.
    """
    with path.open("r+b") as file:
        if size > 0 and hasattr(os, "posix_fallocate"):
            with naming(path):
                os.posix_fallocate(file.fileno(), 0, size)


def _number(error: Exception, written: Path) -> int | None:
    """Return the number of an error of the disk on the file ``written``, or in that folder."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename is None:
            return error.errno if error.errno in DISK_ERRORS else None
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        return error.errno if Path(name).is_relative_to(written) else None
    match = RUST_ERROR.search(str(error))
    return int(match[1]) if match else None


def _has_number(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno is not None


def _probe(temporary: Path) -> int | None:
    """Return the number of the error that writing to a file, or into a folder, raises now."""
    file = temporary / "probe" if temporary.is_dir() else temporary
    try:
        with file.open("ab", buffering=0) as stream:
            stream.write(PROBE)
            os.fsync(stream.fileno())
    except OSError as error:
        return error.errno
    return None
