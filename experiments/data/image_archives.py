"""The files of a folder, .zip or .tar by their names, read on demand, also by several threads."""

import os
import posixpath
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import NamedTuple, cast

from experiments.data.memory_bounds import require_plausible

__all__ = ["ARCHIVES", "FileSet", "StoredFile", "beginning", "file_set", "is_archive", "left_out"]

NAMED = 3  # names that a note lists before it ends in ...


class StoredFile(NamedTuple):
    """A file of a folder or archive."""

    open: Callable[[], BufferedIOBase]
    size: int  # bytes
    modified: int  # time of the last change in ns; 0 inside an archive


@dataclass(frozen=True)
class FileSet:
    """The files of a folder or archive, by their names in it, whose folders end in a slash."""

    path: Path
    files: Mapping[str, StoredFile]
    name: str  # of the data set
    notes: list[str] = field(default_factory=list)  # on what cannot hold files
    stamp: tuple[object, ...] = ()  # of an archive: changes when it does

    def source(self, name: str) -> str:
        """Return a file in words, for messages."""
        return f"{self.path}: {name}"

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        with self.files[name].open() as file:
            return file.read()


@contextmanager
def file_set(path: Path) -> Iterator[FileSet]:
    """Open a folder, or an archive by the suffix of its name, while the block runs.

    Raises:
        InputError: an archive unpacks to far more than the size of its file.
    """
    if path.is_dir():
        yield _folder(path)
        return
    with ARCHIVES[_suffix(path)](path) as files:
        state = path.stat()
        yield FileSet(path, files, _set_name(path), stamp=(state.st_size, state.st_mtime_ns))


def left_out(kind: str, names: list[str]) -> str:
    """Return the note on files of a kind that are not read."""
    return f"{kind} left out: {len(names)} ({beginning(names)})"


def beginning(names: list[str]) -> str:
    """Return the first names, and ... if there are more."""
    more = ", ..." if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _set_name(path: Path) -> str:
    """Return the name of a folder or archive without its suffixes."""
    return path.resolve().stem.removesuffix(".tar")


def _suffix(path: Path) -> str:
    return next(suffix for suffix in ARCHIVES if path.name.lower().endswith(suffix))


def _folder(folder: Path) -> FileSet:
    """Return the files of a folder, with notes on links to folders, devices and empty folders."""
    files: dict[str, StoredFile] = {}
    skipped: dict[str, list[str]] = {
        "linked folders": [],
        "broken links or devices": [],
        "empty folders": [],
    }
    waiting = [""]  # names of folders, each with a final slash
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            count = 0
            for entry in entries:
                count += 1
                name = prefix + entry.name
                if _is_broken(entry):
                    skipped["broken links or devices"].append(name)
                elif entry.is_file():
                    files[name] = _stored(entry)
                elif not entry.is_dir():
                    skipped["broken links or devices"].append(name)
                elif entry.is_symlink():
                    skipped["linked folders"].append(name)
                else:
                    waiting.append(f"{name}/")
        if prefix and not count:
            skipped["empty folders"].append(prefix[:-1])

    notes = [left_out(kind, sorted(names)) for kind, names in skipped.items() if names]
    return FileSet(folder, files, _set_name(folder), notes)


def _is_broken(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a link that leads nowhere, or back to itself."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def _stored(entry: "os.DirEntry[str]") -> StoredFile:
    state = entry.stat()
    opener = cast("Callable[[], BufferedIOBase]", partial(open, entry.path, "rb"))
    return StoredFile(opener, state.st_size, state.st_mtime_ns)


@contextmanager
def _zip(path: Path) -> Iterator[dict[str, StoredFile]]:
    with zipfile.ZipFile(path) as archive:
        files = {}
        for member in archive.infolist():
            if not member.is_dir():
                require_plausible(
                    member.compress_size, member.file_size, f"{path}: {member.filename}"
                )
                opener = cast(
                    "Callable[[], BufferedIOBase]", partial(archive.open, member.filename)
                )
                files[_plain_name(member.filename)] = StoredFile(opener, member.file_size, 0)
        yield files


@contextmanager
def _tar(path: Path) -> Iterator[dict[str, StoredFile]]:
    """Yield the files of a .tar, which are read in place by their offsets."""
    files = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isreg():
                opener = partial(_slice, path, member.offset_data, member.size)
                files[_plain_name(member.name)] = StoredFile(opener, member.size, 0)
    yield files


@contextmanager
def _compressed_tar(path: Path) -> Iterator[dict[str, StoredFile]]:
    """Yield the files of a .tar.gz, which are held in memory: gzip cannot be read in any order."""
    files = {}
    unpacked = 0
    packed = path.stat().st_size
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            unpacked += member.size
            require_plausible(packed, unpacked, str(path))
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                opener = partial(BytesIO, content.read())
                files[_plain_name(member.name)] = StoredFile(opener, member.size, 0)
    yield files


def _plain_name(name: str) -> str:
    """Return the name of a member of an archive without "./" and a slash before it."""
    return posixpath.normpath(name).lstrip("/")


def _slice(path: Path, start: int, size: int) -> BufferedIOBase:
    with path.open("rb") as file:
        file.seek(start)
        return BytesIO(file.read(size))


# Suffix -> context manager of the files in an archive.
ARCHIVES = {".zip": _zip, ".tar": _tar, ".tar.gz": _compressed_tar, ".tgz": _compressed_tar}


def is_archive(path: Path) -> bool:
    """Return whether the name of a file ends in the suffix of an archive."""
    return path.name.lower().endswith(tuple(ARCHIVES))
