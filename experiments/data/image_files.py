"""A folder or .zip of PNG and JPEG images as a data set: sorted by name, subfolders are classes."""

import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np

from experiments.data.arrays import Data
from experiments.data.image_decoding import MULTIPLE, ONE_BIT, PALETTE, ROTATED, SCALED, decode
from experiments.data.sources import has_suffix
from univae.errors import InputError

__all__ = ["ImageFiles"]

# The bytes of every file by its name inside the folder or archive, read on demand.
Files: TypeAlias = Mapping[PurePosixPath, Callable[[], bytes]]

NAMED = 3  # names that a note lists before it ends in ...
WHITE = 255


class ImageFiles:
    """Images of one size, of 2 levels where all files have 1 bit a pixel, otherwise of 256."""

    summary = "a folder or .zip of PNG or JPEG images"

    def recognises(self, path: Path) -> bool:
        """Return whether this is a folder, or a file whose name ends in .zip."""
        return path.is_dir() or has_suffix(path, ".zip")

    def read(self, path: Path) -> Data:
        """Return the images in the order of their names; subfolders are classes.

        The levels are 0 and 1 if all files have 1 bit a pixel, otherwise 0..255, also where every
        pixel is black or white. Photographs are rotated upright, hidden files left out.

        Raises:
            InputError: a file is no opaque grey or colour image of 8 bits, is animated, or has
                another size.
        """
        if path.is_dir():
            paths = sorted(path.rglob("*"))
            files = {_name(p, path): p.read_bytes for p in paths if p.is_file()}
            return _stack(files, path, _unread_notes(paths, path))

        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            members = {PurePosixPath(name): partial(archive.read, name) for name in names}
            return _stack(members, path, [])


def _name(file: Path, folder: Path) -> PurePosixPath:
    return PurePosixPath(file.relative_to(folder).as_posix())


def _unread_notes(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return notes on symbolic links to folders, broken links, devices and empty folders."""
    linked = [p for p in paths if p.is_symlink() and p.is_dir()]
    special = [p for p in paths if not p.is_file() and not p.is_dir()]
    empty = [p for p in paths if p.is_dir() and not p.is_symlink() and not any(p.iterdir())]
    kinds = {
        "linked folders": linked,
        "broken links or devices": special,
        "empty folders": empty,
    }

    notes = []
    for kind, members in kinds.items():
        if members:
            notes.append(_unread_note(kind, [str(_name(p, folder)) for p in members]))
    return notes


def _unread_note(kind: str, names: Sequence[str]) -> str:
    return f"{kind} left out: {len(names)} ({_beginning(names)})"


def _beginning(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _is_hidden(name: PurePosixPath) -> bool:
    return any(component.startswith(".") for component in name.parts)


def _stack(files: Files, path: Path, notes: list[str]) -> Data:
    """Return the images of all files that are not hidden, in the order of their names."""
    hidden = sorted(str(name) for name in files if _is_hidden(name))
    if hidden:
        notes.append(_unread_note("hidden files", hidden))
    names = sorted(name for name in files if not _is_hidden(name))
    if not names:
        raise InputError(f"{path} holds no image; give PNG or JPEG images")

    labels = _class_labels(names, path, notes)
    values, remarks = _decoded(files, names, path)
    notes += _remark_notes(remarks, len(names))
    one_bit = remarks[ONE_BIT] == len(names)
    if one_bit:
        values //= WHITE
    elif all(_is_black_and_white(image) for image in values):
        notes.append(
            "every pixel is 0 or 255, read as 256 grey levels; --binarisation threshold makes it 2"
        )

    name = path.resolve().stem
    levels = 2 if one_bit else WHITE + 1
    all_notes = tuple(f"{name}: {note}" for note in notes)
    return Data(values, levels, labels, name, "images", notes=all_notes, one_bit=one_bit)


def _class_labels(
    names: Sequence[PurePosixPath], path: Path, notes: list[str]
) -> np.ndarray | None:
    """Return the number of each image's subfolder, and note the numbers; None for one folder."""
    folders = sorted({name.parent for name in names})
    if len(folders) == 1:
        return None
    if PurePosixPath(".") in folders:
        raise InputError(
            f"{path} holds images beside class folders such as {folders[1]}; give each a class, "
            "or none"
        )

    numbered = [f"{number} {folder}" for number, folder in enumerate(folders)]
    notes.append(f"labels are the {len(folders)} subfolders: {_beginning(numbered)}")
    return np.array([folders.index(name.parent) for name in names])


def _decoded(
    files: Files, names: Sequence[PurePosixPath], path: Path
) -> tuple[np.ndarray, Counter[str]]:
    """Return the images, and the number of images to which each remark applies."""
    remarks: Counter[str] = Counter()
    first = decode(files[names[0]](), f"{path}: {names[0]}", Counter())
    values = np.empty((len(names), *first.shape), np.uint8)
    for i, name in enumerate(names):
        image = decode(files[name](), f"{path}: {name}", remarks)
        if image.shape != first.shape:
            raise InputError(
                f"images in {path} must be of one size; got (channels, height, width) = "
                f"{first.shape} in {names[0]}, {image.shape} in {name}; resize or convert them"
            )
        values[i] = image
    return values, remarks


def _remark_notes(remarks: Counter[str], count: int) -> list[str]:
    notes = []
    if 0 < remarks[ONE_BIT] < count:
        notes.append(
            f"{remarks[ONE_BIT]} of {count} images {ONE_BIT}, read as the grey levels 0 and 255"
        )
    for remark in (ROTATED, PALETTE, SCALED, MULTIPLE):
        if remarks[remark]:
            notes.append(f"{remarks[remark]} of {count} images {remark}")
    return notes


def _is_black_and_white(image: np.ndarray) -> bool:
    return bool(((image == 0) | (image == WHITE)).all())
