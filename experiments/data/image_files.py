"""A folder or .zip of PNG and JPEG images as one array: names decide the order, subfolders are classes."""

import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from univae.errors import InputError

__all__ = ["Images", "read_images"]

ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
# where a PNG says how many bits a channel has, behind its signature and the head of its first chunk
DEPTH = 24

# What is said of images that are not plain grey or colour of 8 bits.
TURNED = "turned as their EXIF orientation says"
PALETTE = "of a palette, read as red, green and blue"
SPREAD = "of 2 or 4 bits a pixel, spread to 0..255"
BITS = "of 1 bit a pixel"
SEVERAL = "in files of several pictures, of which the first is read"


class Images(NamedTuple):
    """What the files of a folder hold."""

    values: np.ndarray  # (N, 1 or 3, height, width), uint8
    levels: int  # 2 where every file has 1 bit a pixel, else 256
    labels: np.ndarray | None  # (N,), where there are class folders
    notes: tuple[str, ...]  # what was left out or assumed, a line each


def read_images(path: Path) -> Images:
    """Return the images of a folder or .zip in the order of their names.

    Images of which every one has 1 bit a pixel hold 0 and 1; all others hold 0..255, also where
    each pixel is black or white. Turned photographs are set upright.

    Raises:
        InputError: a file is no opaque grey or colour image of 8 bits, is animated, or has another
            size.
    """
    if path.is_dir():
        paths = sorted(path.rglob("*"))
        files = {_name(p, path): p.read_bytes for p in paths if p.is_file()}
        return _stack(files, path, _passed_over(paths, path))
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        return _stack(
            {PurePosixPath(name): partial(archive.read, name) for name in names}, path, []
        )


def _name(file: Path, folder: Path) -> PurePosixPath:
    return PurePosixPath(file.relative_to(folder).as_posix())


def _passed_over(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return notes of links that are not followed, broken links, devices and empty folders."""
    linked = [p for p in paths if p.is_symlink() and p.is_dir()]
    others = [p for p in paths if not p.is_file() and not p.is_dir()]
    empty = [p for p in paths if p.is_dir() and not p.is_symlink() and not any(p.iterdir())]
    kinds = (
        ("linked folders", linked),
        ("broken links or devices", others),
        ("empty folders", empty),
    )
    return [
        _left_out(kind, [str(_name(p, folder)) for p in found]) for kind, found in kinds if found
    ]


def _left_out(kind: str, names: Sequence[str]) -> str:
    more = ", ..." if len(names) > 3 else ""
    return f"{kind} left out: {len(names)} ({', '.join(names[:3])}{more})"


def _hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _stack(
    files: Mapping[PurePosixPath, Callable[[], bytes]], path: Path, notes: list[str]
) -> Images:
    """Stack images in the order of their names.

    Hidden files are passed over, subfolders are classes.
    """
    names = sorted(name for name in files if not _hidden(name))
    hidden = sorted(str(name) for name in files if _hidden(name))
    if hidden:
        notes.append(_left_out("hidden files", hidden))
    if not names:
        raise InputError(f"read: {path} holds no image; give PNG or JPEG images")
    folders = _class_folders(names, path)
    labels = np.array([folders.index(name.parent) for name in names]) if folders else None
    if folders:
        more = ", ..." if len(folders) > 3 else ""
        classes = ", ".join(f"{i} {folder}" for i, folder in enumerate(folders[:3]))
        notes.append(f"labels are the {len(folders)} subfolders: {classes}{more}")
    values, remarks = _decoded(files, names, path)
    levels = 256
    if remarks[BITS] == len(names):
        levels = 2
    elif remarks[BITS]:
        notes.append(
            f"{remarks[BITS]} of {len(names)} images {BITS}, read as the grey levels 0 and 255"
        )
    for what in (TURNED, PALETTE, SPREAD, SEVERAL):
        if remarks[what]:
            notes.append(f"{remarks[what]} of {len(names)} images {what}")
    if levels == 2:
        values //= 255
    elif all(_black_and_white(image) for image in values):
        notes.append(
            "every pixel is 0 or 255, read as 256 grey levels; --binarisation threshold makes it 2"
        )
    return Images(values, levels, labels, tuple(notes))


def _class_folders(names: Collection[PurePosixPath], path: Path) -> list[PurePosixPath]:
    """Return the folders that are classes, in their order; none where all images are in one."""
    folders = sorted({name.parent for name in names})
    if len(folders) > 1 and PurePosixPath(".") in folders:
        raise InputError(
            f"read: {path} holds images beside class folders such as {folders[1]}; give each a class, or none"
        )
    return folders if len(folders) > 1 else []


def _decoded(
    files: Mapping[PurePosixPath, Callable[[], bytes]], names: Sequence[PurePosixPath], path: Path
) -> tuple[np.ndarray, Counter[str]]:
    """Return the images of one size, and how many of them each remark holds of."""
    remarks: Counter[str] = Counter()
    first = _image(files[names[0]](), f"{path}: {names[0]}", Counter())
    values = np.empty((len(names), *first.shape), np.uint8)
    for i, name in enumerate(names):
        image = _image(files[name](), f"{path}: {name}", remarks)
        if image.shape != first.shape:
            raise InputError(
                f"read: images in {path} must be of one size; got (channels, height, width) = {first.shape} in "
                f"{names[0]}, {image.shape} in {name}; resize or convert them"
            )
        values[i] = image
    return values, remarks


def _black_and_white(image: np.ndarray) -> bool:
    return bool(((image == 0) | (image == 255)).all())


def _image(content: bytes, who: str, remarks: Counter[str]) -> np.ndarray:
    """Return an opaque image of 8 bits as (1 or 3, height, width), and count what is assumed."""
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as image:
            frames = getattr(image, "n_frames", 1)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"read: {who} is no PNG or JPEG image; convert or remove it") from error
    _check(image, content, frames, who)
    array = np.asarray(_upright(image, ImageOps.exif_transpose, remarks))
    bits = content[DEPTH] if image.format == "PNG" else 8
    if frames > 1:
        remarks[SEVERAL] += 1
    if image.mode == "P":
        remarks[PALETTE] += 1
    elif bits < 8:
        remarks[BITS if bits == 1 else SPREAD] += 1
    return np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)


def _check(image: Any, content: bytes, frames: int, who: str) -> None:
    """Raise :class:`InputError` for what cannot be read as 8 bits without loss."""
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise InputError(
            f"read: {who} must be grey or RGB of 8 bits; got mode {image.mode}; convert it"
        )
    # Pillow keeps the high bytes alone of colour and alpha of 16 bits, and calls the mode RGB or
    # RGBA.
    if image.format == "PNG" and content[DEPTH] > 8:
        raise InputError(
            f"read: {who} must be grey or RGB of 8 bits; got {content[DEPTH]} bits a channel; convert it"
        )
    if frames > 1 and image.format == "PNG":
        raise InputError(f"read: {who} is an animation of {frames} frames; save the one you mean")
    if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise InputError(
            f"read: {who} must be opaque; got transparent pixels; flatten it onto a background"
        )


def _upright(image: Any, transpose: Callable[[Any], Any], remarks: Counter[str]) -> Any:
    """Return a grey or RGB image that stands as its EXIF data say."""
    plain = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    if image.getexif().get(ORIENTATION, 1) in range(2, 9):
        remarks[TURNED] += 1
        plain = transpose(plain)
    return plain
