"""Arrays mapped from files, whose pages count as memory once they are read."""

import mmap
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["UNREADABLE_ARRAY", "map_array", "read_header", "release_pages"]

SHARED = ("r", "r+", "w+")  # the modes of mappings whose changes are in their files

# Exceptions of np.load for damaged files: it evaluates the header as a Python literal, and archives
# add their exceptions.
UNREADABLE_ARRAY = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    SyntaxError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,  # a compression method that zipfile lacks
    RuntimeError,  # an encrypted archive
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


# Version of an .npy -> the reader of its header: shape, order and dtype.
HEADERS: Mapping[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def map_array(path: Path) -> np.ndarray:
    """Map the array of an .npy file, read-only.

    Raises:
        OSError, ValueError: the file cannot be read, or is damaged.
    """
    with path.open("rb") as file:
        read_header(file)  # np.load divides by what a damaged header says
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def read_header(file: BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype of the array of an .npy file, from the header at its start.

    Raises:
        ValueError: values have no bytes, of which NumPy would make strings of four, or a length is
            negative; or whatever NumPy raises for a damaged header, of :data:`UNREADABLE_ARRAY`.
    """
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"it is of format {version}; save it again with NumPy")
    shape, _, dtype = HEADERS[version](file)
    if not dtype.itemsize:
        raise ValueError(f"it holds empty strings ({dtype})")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, dtype


def release_pages(array: np.ndarray) -> None:
    """Give back the memory of an array that NumPy maps from a file; others stay unchanged.

    The values stay the same: pages are read again from the file, or from the system's cache of it,
    when they are next used. Mappings of other libraries are left alone, because their changes may
    be in memory alone.
    """
    owner: object = array
    mode = ""
    while isinstance(owner, np.ndarray):
        mode = owner.mode if isinstance(owner, np.memmap) else mode
        owner = owner.base
    if isinstance(owner, mmap.mmap) and mode in SHARED and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
