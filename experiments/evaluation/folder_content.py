"""A folder as the content of a compressed file: every file comes back, under its name.

The rows of the files that the model codes follow each other as one content. Beside them are stored
a list of all members, as columns of JSON, and the bytes of all other files, in one LZMA2 stream.
"""

import json
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from density.coding.archive import Archive
from density.coding.container import Header
from density.coding.data_code import Coding, Rows
from density.coding.fields import damaged
from experiments.data.trees import Member, Tree, beginning, read_tree
from experiments.evaluation.archivers import tree_sizes
from experiments.evaluation.file_codec import DAMAGE, Content, FileCodec, Part
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["FOLDER", "is_folder", "member_rows", "read_folder", "restore_folder"]

FOLDER = "folder"  # the fact of an archive that it holds a folder, with its number of members
LENGTH = 8  # bytes of the length of the list of members
LATEST = 2**40  # seconds from 1970, of a change
NO_FILE = -1  # the size of a folder among the sizes of files

Members = tuple[Member, ...]


def is_folder(archive: Archive) -> bool:
    """Return whether an archive holds a folder."""
    return FOLDER in archive.facts


def read_folder(
    codec: FileCodec[Any, Rows], folder: Path, coding: Coding
) -> Content[Members, Rows]:
    """Return the content of a folder.

    Raises:
        InputError: the codec is one of single files, or the folder is empty.
    """
    codec.check_folder()
    tree: Tree = read_tree(folder)
    if not tree.members:
        raise InputError(f"compress: {folder} is empty; give a folder that holds files")
    parts: list[Part | None] = []
    for member in tree.members:
        parts.append(codec.split(member.content) if member.content else None)
    coded = [part for part in parts if part is not None]
    values: Rows = codec.join_rows([part.rows for part in coded])
    shape = (len(tree.members),)
    return Content(
        tree.members,
        values,
        Header(codec.fingerprint, coding, torch.__version__, FOLDER, shape),
        size=tree.size,
        stored=_archive(tree.members, [None] * len(parts)),
        units=sum(codec.count_units(part) for part in coded),
        archiver_sizes=partial(tree_sizes, tree.members),
        beside=_archive(tree.members, parts),
        facts=_counts(codec, tree, parts),
        notes=(*tree.notes, *_stored_notes(folder, tree, parts)),
    )


def restore_folder(codec: FileCodec[Any, Rows], archive: Archive, values: Rows) -> Members:
    """Return the members of a folder from an archive and the rows of its coded files.

    Raises:
        InputError: the archive is no folder's, or is damaged.
    """
    try:
        columns, rest = _columns(archive.stored)
        return _members(codec, columns, rest, values)
    except InputError:
        raise
    except (*DAMAGE, StopIteration) as error:
        raise damaged("its list of files is invalid") from error


def member_rows(codec: FileCodec[Any, Rows], members: Members) -> Rows:
    """Return the rows of all files that the model codes, one after the other."""
    parts = [codec.split(member.content) for member in members if member.content]
    values: Rows = codec.join_rows([part.rows for part in parts if part is not None])
    return values


def _archive(members: Members, parts: Sequence[Part | None]) -> Archive:
    """Return the list of members, and of every file its bytes or the rest of its part."""
    times = [member.time for member in members]
    rests = []
    for member, part in zip(members, parts, strict=True):
        rests.append(member.content if part is None else part.rest)
    columns = {
        "names": [member.name for member in members],
        "modes": [member.mode for member in members],
        "times": np.diff(times, prepend=0).tolist(),
        "sizes": [NO_FILE if rest is None else len(rest) for rest in rests],
        "rows": [0 if part is None else len(part.rows) for part in parts],
        "facts": [part.facts for part in parts if part is not None],
    }
    text = json.dumps(columns, separators=(",", ":")).encode()
    contents = [rest for rest in rests if rest is not None]
    stored = b"".join([len(text).to_bytes(LENGTH, "little"), text, *contents])
    return Archive({FOLDER: len(members)}, stored)


def _columns(stored: bytes) -> tuple[JsonObject, bytes]:
    """Return the columns of the list of members, and the bytes behind it."""
    end = LENGTH + int.from_bytes(stored[:LENGTH], "little")
    return json.loads(stored[LENGTH:end]), stored[end:]


def _members(
    codec: FileCodec[Any, Rows], columns: JsonObject, stored: bytes, values: Rows
) -> Members:
    facts = iter(columns["facts"])
    names_to_rows = zip(
        columns["names"],
        columns["modes"],
        accumulate(columns["times"]),
        columns["sizes"],
        columns["rows"],
        strict=True,
    )
    members = []
    position = 0
    row = 0
    for name, mode, time, size, count in names_to_rows:
        if size < NO_FILE or count < 0:  # would read the bytes or rows of a file a second time
            raise ValueError("a negative size")
        content = None
        if size != NO_FILE:
            content = stored[position : position + size]
            position += size
        if count:
            rows = values[row : row + count]
            row += count
            content = codec.join(Part(rows, content or b"", next(facts)))
        if abs(time) > LATEST:
            raise ValueError("a time beyond all calendars")
        members.append(Member(str(name), int(mode), int(time), content))
    if position != len(stored) or row != len(values):
        raise ValueError("other sizes than those of the files")
    return tuple(members)


def _counts(codec: FileCodec[Any, Rows], tree: Tree, parts: Sequence[Part | None]) -> JsonObject:
    """Return how many files come back, and how exactly."""
    files = sum(member.content is not None for member in tree.members)
    coded = len(parts) - parts.count(None)
    counts = {"files": files, "folders": len(tree.members) - files}
    counts |= {"pixels_exact": 0, "bytes_exact": files - coded, "coded_files": coded}
    counts[codec.exactness] += coded
    return counts


def _stored_notes(folder: Path, tree: Tree, parts: Sequence[Part | None]) -> list[str]:
    """Return a note on the files that the model does not code."""
    names = []
    for member, part in zip(tree.members, parts, strict=True):
        if part is None and member.content is not None:
            names.append(member.name)
    if not names:
        return []
    files = sum(member.content is not None for member in tree.members)
    return [
        f"{folder.name}: {len(names)} of {files} files are not coded by the model, and stored byte "
        f"for byte ({beginning(names)})"
    ]
