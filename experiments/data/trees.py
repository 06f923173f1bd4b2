"""A folder as its members: names, permission bits, times of change and contents, and back.

Members are the files and folders below a folder, empty folders included, in the order of their
names. Links are not followed, and what is neither file nor folder (a pipe, a device) is left out;
both are named in the notes. Names are checked before anything is written, so that no member of a
file from elsewhere lands outside of the new folder.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from univae.errors import InputError

__all__ = ["Member", "Tree", "beginning", "read_tree", "write_tree"]

NAMED = 3  # names that a note lists before it ends in ...
PERMISSIONS = 0o777  # the bits of a mode that are kept
UP = ".."
LONGEST_NAME = 255  # bytes of a file's name without its folders, in the usual file systems
SHOWN = 40  # characters of a name in a message


@dataclass(frozen=True)
class Member:
    """A file or a folder inside a folder."""

    name: str  # relative to the folder, with / between its components
    mode: int  # permission bits
    time: int  # of the last change, in seconds since 1970
    content: bytes | None  # None: a folder


@dataclass(frozen=True)
class Tree:
    """The members of a folder, and notes on what was left out."""

    members: tuple[Member, ...]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(len(member.content or b"") for member in self.members)


def read_tree(folder: Path) -> Tree:
    """Return every file and folder below ``folder``."""
    members = []
    links = []
    special = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            links.append(name)
        elif stat.S_ISDIR(status.st_mode):
            members.append(_member(name, status, None))
        elif stat.S_ISREG(status.st_mode):
            members.append(_member(name, status, path.read_bytes()))
        else:
            special.append(name)
    notes = []
    for kind, names in {"links": links, "pipes, sockets or devices": special}.items():
        if names:
            notes.append(f"{folder.name}: {kind} left out: {len(names)} ({beginning(names)})")
    return Tree(tuple(members), tuple(notes))


def write_tree(members: Sequence[Member], folder: Path) -> None:
    """Write members into an empty folder, with their permission bits and times.

    Raises:
        InputError: a name is not below the folder, is too long, appears twice, or is that of a
            file in the name of another member. Nothing is written then.
    """
    _check_names(members)
    for member in members:
        path = folder / member.name
        if member.content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.content)
    # Members inside a folder come first: writing them changes the folder's time, and may need a
    # permission that the folder will not have.
    for member in sorted(members, key=lambda member: member.name, reverse=True):
        path = folder / member.name
        os.utime(path, (member.time, member.time))
        path.chmod(member.mode & PERMISSIONS)


def beginning(names: Sequence[str]) -> str:
    """Return the first names of a list, for a note."""
    more = ", ..." if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _member(name: str, status: os.stat_result, content: bytes | None) -> Member:
    return Member(name, stat.S_IMODE(status.st_mode) & PERMISSIONS, int(status.st_mtime), content)


def _check_names(members: Sequence[Member]) -> None:
    files = {member.name for member in members if member.content is not None}
    if len({member.name for member in members}) != len(members):
        raise InputError("decompress: two members of the folder have one name; it is damaged")
    for member in members:
        path = PurePosixPath(member.name)
        _check_length(path)
        is_plain = str(path) == member.name and "\0" not in member.name and path.parts
        if not is_plain or path.is_absolute() or UP in path.parts:
            raise InputError(
                f"decompress: the name {member.name!r} leads out of the new folder; "
                "the file is damaged or hostile"
            )
    for member in members:
        if any(str(parent) in files for parent in PurePosixPath(member.name).parents):
            raise InputError(
                f"decompress: {member.name!r} lies below a file; the file is damaged or hostile"
            )


def _check_length(path: PurePosixPath) -> None:
    """Raise :class:`InputError` for a name that no file can have here."""
    for name in path.parts:
        try:
            size = len(os.fsencode(name))
        except UnicodeEncodeError as error:
            raise InputError(
                f"decompress: the name {name[:SHOWN]!r} is no text; the file is damaged or hostile"
            ) from error
        if size > LONGEST_NAME:
            raise InputError(
                f"decompress: a name has {size} bytes ({name[:SHOWN]}...), and a file may have "
                f"{LONGEST_NAME}; the file is damaged, or from another file system"
            )
