"""The files of a folder, .zip or .tar by their names, read on demand, also by several threads."""

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedIOBase, BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast

__all__ = ["ARCHIVES", "FileSet", "StoredFile", "beginning", "file_set", "is_archive", "left_out"]

NAMED = 3  # names that a note lists before it ends in ...


class StoredFile(NamedTuple):
    """A file of a folder or archive."""

    open: Callable[[], BufferedIOBase]
    size: int  # bytes
    modified: int  # time of the last change in ns; 0 inside an archive


@dataclass(frozen=True)
class FileSet:
    """The files of a folder or archive, by their names in it."""

    path: Path
    files: Mapping[PurePosixPath, StoredFile]
    notes: list[str] = field(default_factory=list)  # on what cannot hold files

    def source(self, name: PurePosixPath) -> str:
        """Return a file in words, for messages."""
        return f"{self.path}: {name}"

    def read(self, name: PurePosixPath) -> bytes:
        """Return the bytes of a file."""
        with self.files[name].open() as file:
            return file.read()


@contextmanager
def file_set(path: Path) -> Iterator[FileSet]:
    """Open a folder, or an archive by the suffix of its name, while the block runs."""
    if path.is_dir():
        yield _folder(path)
        return
    with ARCHIVES[_suffix(path)](path) as files:
        yield FileSet(path, files)


def left_out(kind: str, names: list[str]) -> str:
    """Return the note on files of a kind that are not read."""
    return f"{kind} left out: {len(names)} ({beginning(names)})"


def beginning(names: list[str]) -> str:
    """Return the first names, and ... if there are more."""
    more = ", ..." if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _suffix(path: Path) -> str:
    return next(suffix for suffix in ARCHIVES if path.name.lower().endswith(suffix))


def _folder(folder: Path) -> FileSet:
    """Return the files of a folder, with notes on links to folders, devices and empty folders."""
    files = {}
    linked: list[str] = []
    special: list[str] = []
    empty: list[str] = []
    for parent, folders, names in os.walk(folder):
        place = Path(parent)
        for name in folders:
            if (place / name).is_symlink():
                linked.append(_name(place / name, folder))
        if not folders and not names and place != folder:
            empty.append(_name(place, folder))
        for name in names:
            path = place / name
            if path.is_file():
                state = path.stat()
                opener = cast("Callable[[], BufferedIOBase]", partial(path.open, "rb"))
                stored = StoredFile(opener, state.st_size, state.st_mtime_ns)
                files[PurePosixPath(_name(path, folder))] = stored
            else:
                special.append(_name(path, folder))

    kinds = {
        "linked folders": linked,
        "broken links or devices": special,
        "empty folders": empty,
    }
    notes = [left_out(kind, sorted(members)) for kind, members in kinds.items() if members]
    return FileSet(folder, files, notes)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


@contextmanager
def _zip(path: Path) -> Iterator[dict[PurePosixPath, StoredFile]]:
    with zipfile.ZipFile(path) as archive:
        files = {}
        for member in archive.infolist():
            if not member.is_dir():
                opener = cast(
                    "Callable[[], BufferedIOBase]", partial(archive.open, member.filename)
                )
                files[PurePosixPath(member.filename)] = StoredFile(opener, member.file_size, 0)
        yield files


@contextmanager
def _tar(path: Path) -> Iterator[dict[PurePosixPath, StoredFile]]:
    """Yield the files of a .tar, which are read in place by their offsets."""
    files = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isreg():
                opener = partial(_slice, path, member.offset_data, member.size)
                files[_member_name(member)] = StoredFile(opener, member.size, 0)
    yield files


@contextmanager
def _compressed_tar(path: Path) -> Iterator[dict[PurePosixPath, StoredFile]]:
    """Yield the files of a .tar.gz, which are held in memory: gzip cannot be read in any order."""
    files = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                opener = partial(BytesIO, content.read())
                files[_member_name(member)] = StoredFile(opener, member.size, 0)
    yield files


def _member_name(member: tarfile.TarInfo) -> PurePosixPath:
    return PurePosixPath(os.path.normpath(member.name))


def _slice(path: Path, start: int, size: int) -> BufferedIOBase:
    with path.open("rb") as file:
        file.seek(start)
        return BytesIO(file.read(size))


# Suffix -> context manager of the files in an archive.
ARCHIVES = {".zip": _zip, ".tar": _tar, ".tar.gz": _compressed_tar, ".tgz": _compressed_tar}


def is_archive(path: Path) -> bool:
    """Return whether the name of a file ends in the suffix of an archive."""
    return path.name.lower().endswith(tuple(ARCHIVES))
