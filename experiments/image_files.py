"""A folder or .zip of PNG and JPEG images as one array: names decide the order, subfolders are classes."""

import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np

from univae.errors import InputError

__all__ = ["read_images"]


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns uint8 images (N, 1 or 3, height, width) and labels, if there are class folders, of a folder or .zip."""
    if not path.is_dir():
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            return _stack({PurePosixPath(name): partial(archive.read, name) for name in names}, path)
    files = {PurePosixPath(p.relative_to(path).as_posix()): p.read_bytes for p in path.rglob("*") if p.is_file()}
    return _stack(files, path)


def _stack(files: Mapping[PurePosixPath, Callable[[], bytes]], path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Stacks images in the order of their names; hidden files are passed over, subfolders are classes."""
    names = sorted(name for name in files if not any(part.startswith(".") for part in name.parts))
    if not names:
        raise InputError(f"read: {path} holds no image; give PNG or JPEG images")
    folders = sorted({name.parent for name in names})
    if len(folders) > 1 and PurePosixPath(".") in folders:
        raise InputError(
            f"read: {path} holds images beside class folders such as {folders[1]}; give each a class, or none"
        )
    labels = np.array([folders.index(name.parent) for name in names]) if len(folders) > 1 else None
    first = _image(files[names[0]](), f"{path}: {names[0]}")
    values = np.empty((len(names), *first.shape), np.uint8)
    for i, name in enumerate(names):
        image = _image(files[name](), f"{path}: {name}")
        if image.shape != first.shape:
            raise InputError(
                f"read: images in {path} must be of one size; got (channels, height, width) = {first.shape} in "
                f"{names[0]}, {image.shape} in {name}; resize or convert them"
            )
        values[i] = image
    return values, labels


def _image(content: bytes, who: str) -> np.ndarray:
    """An opaque grey or colour image of 8 bits as (1 or 3, height, width)."""
    from PIL import Image

    try:
        with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as image:
            image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"read: {who} is no PNG or JPEG image; convert or remove it") from error
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise InputError(f"read: {who} must be grey or RGB of 8 bits; got mode {image.mode}; convert it")
    if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise InputError(f"read: {who} must be opaque; got transparent pixels; flatten it onto a background")
    array = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)
