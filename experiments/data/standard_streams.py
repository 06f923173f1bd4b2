"""Standard input and output in place of files, under the name ``-``."""

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from univae.errors import InputError

__all__ = ["STREAM", "source_file", "temporary_file", "write_stdout"]

STREAM = "-"  # the name of standard input, and of standard output

MOST = 2**32  # bytes of standard input that are kept in a temporary file
BLOCK = 2**20

NPY = b"\x93NUMPY"  # first bytes of files
ZIP = b"PK"


@contextmanager
def source_file(source: str) -> Iterator[str]:
    """Yield a data source as it is, or ``-`` as a temporary file of what standard input holds.

    The file has the suffix of its format, which its first bytes show; text and IDX have none.

    Raises:
        InputError: standard input is a terminal, or empty; or what the block raises, in whose
            message the file is called standard input.
    """
    if source != STREAM:
        yield source
        return
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal; give a file, or pipe data into -")
    folder = Path(tempfile.mkdtemp())
    path = folder / "stdin"
    try:
        _copy_stdin(path)
        path = path.rename(path.with_suffix(_suffix(path)))
        yield str(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), "standard input")) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_file() -> Iterator[Path]:
    """Yield a file in the system's temporary folder, for outputs such as /dev/stdout."""
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def write_stdout(path: Path) -> None:
    """Copy a file to standard output."""
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _copy_stdin(path: Path) -> None:
    """Write standard input to a file.

    Raises:
        InputError: it is empty, or does not end after 4 GiB.
    """
    size = 0
    with path.open("wb") as file:
        while block := sys.stdin.buffer.read(BLOCK):
            size += len(block)
            if size > MOST:
                raise InputError(
                    f"standard input may hold {MOST // 2**30} GiB; got more; give a file"
                )
            file.write(block)
    if not size:
        raise InputError("standard input is empty; give a file, or pipe data into -")


def _suffix(path: Path) -> str:
    with path.open("rb") as file:
        beginning = file.read(len(NPY))
    if beginning.startswith(NPY):
        return ".npy"
    if not beginning.startswith(ZIP):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return ".zip"  # damaged: its reader says so
    return ".npz" if all(name.endswith(".npy") for name in names) else ".zip"
