"""Arrays mapped from files, whose pages count as memory once they are read."""

import mmap

import numpy as np

__all__ = ["release_pages"]

PRIVATE = "c"  # the mode of a mapping whose changes are in memory alone


def release_pages(array: np.ndarray) -> None:
    """Give back the memory of an array that is mapped from a file; others stay unchanged.

    The values stay the same: pages are read again from the file, or from the system's cache of it,
    when they are next used.
    """
    owner: object = array
    mode = ""
    while isinstance(owner, np.ndarray):
        mode = owner.mode if isinstance(owner, np.memmap) else mode
        owner = owner.base
    if isinstance(owner, mmap.mmap) and mode != PRIVATE and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
