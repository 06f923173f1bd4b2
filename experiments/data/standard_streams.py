"""Standard input and output in place of files, under the name ``-``."""

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from univae.errors import InputError

__all__ = ["STREAM", "source_file", "temporary_file", "write_stdout"]

STREAM = "-"  # the name of standard input, and of standard output

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
    content = sys.stdin.buffer.read()
    if not content:
        raise InputError("standard input is empty; give a file, or pipe data into -")
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / f"stdin{_suffix(content)}"
        path.write_bytes(content)
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


def _suffix(content: bytes) -> str:
    if content.startswith(NPY):
        return ".npy"
    if not content.startswith(ZIP):
        return ""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return ".zip"
    return ".npz" if all(name.endswith(".npy") for name in names) else ".zip"
