"""Which files of a set are images, and the class of each: the first folder in its name."""

import posixpath
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.data.image_archives import FileSet, beginning, left_out
from univae.errors import InputError

__all__ = ["Classes", "class_labels", "image_names"]

SUFFIXES = frozenset(
    [
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib"),
        *(".tif", ".tiff", ".gif"),
    ]
)
# The first bytes of images, by which a file without a suffix is recognised.
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
HIDDEN_FOLDER = "__MACOSX"  # the resources that macOS adds to an archive


class Classes(NamedTuple):
    """The classes of images, in the order of their names."""

    labels: np.ndarray | None  # (N,) the number of each image's class; None for one class
    names: tuple[str, ...] = ()  # of the classes


def image_names(source: FileSet, notes: list[str]) -> list[str]:
    """Return the names of the images in their order, and note the files that are none.

    Raises:
        InputError: there is no image.
    """
    images = []
    hidden = []
    others = []
    for name in sorted(source.files, key=_parts):
        if _is_hidden(name):
            hidden.append(name)
        elif _is_image(source, name):
            images.append(name)
        else:
            others.append(name)
    for kind, names in {"hidden files": hidden, "other files": others}.items():
        if names:
            notes.append(left_out(kind, names))
    if not images:
        besides = f" (only {beginning(others)})" if others else ""
        raise InputError(
            f"{source.path} holds no image{besides}; give PNG, JPEG, WebP, BMP, TIFF or GIF images"
        )
    return images


def _parts(name: str) -> list[str]:
    return name.split("/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == HIDDEN_FOLDER for part in _parts(name))


def _is_image(source: FileSet, name: str) -> bool:
    """Return whether the suffix of a file is an image's, or, without one, its first bytes are."""
    suffix = posixpath.splitext(name)[1]
    if suffix:
        return suffix.lower() in SUFFIXES
    with source.files[name].open() as file:
        return file.read(max(map(len, SIGNATURES))).startswith(SIGNATURES)


def class_labels(names: Sequence[str], source: FileSet, notes: list[str]) -> Classes:
    """Return the class of each image, and note the numbers of the classes.

    The class is the first folder below those that all images share.

    Raises:
        InputError: some images lie in no class folder, others do.
    """
    inner = _without_shared_folders([tuple(_parts(name)) for name in names])
    loose = [parts[0] for parts in inner if len(parts) == 1]
    if len(loose) == len(inner):
        return Classes(None)
    classes = sorted({parts[0] for parts in inner if len(parts) > 1})
    if loose:
        raise InputError(
            f"{source.path} holds images, {loose[0]} for one, beside class folders such as "
            f"{classes[0]}; give each a class, or none"
        )
    deepest = max(len(parts) for parts in inner) - 1
    if deepest > 1:
        notes.append(f"images lie up to {deepest} folders deep: the first folder is the class")
    if len(classes) == 1:
        return Classes(None)

    numbered = [f"{number} {folder}" for number, folder in enumerate(classes)]
    notes.append(f"labels are the {len(classes)} subfolders: {beginning(numbered)}")
    number_of = {folder: number for number, folder in enumerate(classes)}
    labels = np.array([number_of[parts[0]] for parts in inner])
    return Classes(labels, tuple(classes))


def _without_shared_folders(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return names, as their parts, without the outer folders that all of them share.

    A folder that holds an image itself is not left out, except where all images lie in it.
    """
    parents = {parts[:-1] for parts in names}
    if len(parents) == 1:
        return [parts[-1:] for parts in names]
    first = min(parents)
    last = max(parents)
    shared = 0
    while shared < len(first) and first[shared] == last[shared]:
        shared += 1
    if first[:shared] in parents:
        shared = max(0, shared - 1)
    return [parts[shared:] for parts in names]
