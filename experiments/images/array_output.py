"""Write an array of images or table rows as .npy, .npz, or a folder of PNG images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from experiments.data.numpy_files import write_npz
from experiments.data.outputs import Output
from experiments.images.binarisation import WHITE
from univae.errors import InputError

__all__ = ["ARRAY_WRITERS", "check_array_name", "write_array", "write_pngs"]


def _write_npy(file: BinaryIO, name: str, array: np.ndarray) -> None:
    np.save(file, array, allow_pickle=False)


def _write_npz(file: BinaryIO, name: str, array: np.ndarray) -> None:
    write_npz(file, {name: array})


# Suffix of an output -> function that writes an array of a name to it.
ARRAY_WRITERS: Mapping[str, Callable[[BinaryIO, str, np.ndarray], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
}


def check_array_name(out: Path, *, is_image: bool) -> None:
    """Raise :class:`InputError` for the name of another format than the array can have."""
    if out.suffix.lower() in ARRAY_WRITERS or (is_image and not out.suffix):
        return
    folder = ", or a folder without a suffix for PNG" if is_image else ""
    raise InputError(
        f"decompress: {out}: the file holds an array; give a name that ends in .npy, .npz{folder}"
    )


def write_array(array: np.ndarray, out: Output, name: str) -> None:
    """Write an .npz with the array under ``name``, or an .npy, also to standard output."""
    suffix = ".npy" if out.is_stdout else out.path.suffix.lower()
    with out.file() as temporary, temporary.open("wb") as file:
        ARRAY_WRITERS[suffix](file, name, array)


def write_pngs(images: np.ndarray, out: Output, *, is_binary: bool) -> None:
    """Write images (N, height, width[, channels]) as numbered PNG files into a new folder.

    Of a model of two levels, zeros and ones are black and white.
    """
    from PIL import Image

    pixels = images.astype(np.uint8)
    if is_binary and pixels.max() <= 1:
        pixels = pixels * np.uint8(WHITE)
    with out.folder() as folder:
        for number, image in enumerate(pixels):
            is_grey = image.shape[2:] == (1,)
            picture = Image.fromarray(image.squeeze(2) if is_grey else image)
            picture.save(folder / f"{number:06}.png")
