"""Arrays mapped from files, whose pages count as memory once they are read."""

import mmap
import tokenize
import zipfile
import zlib

import numpy as np

__all__ = ["UNREADABLE_ARRAY", "release_pages"]

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
