"""Bounds of the memory that a file may take, which protect from small files that unpack to much.

Compressed data are held in memory as a whole. They may take 256 MiB, or 100 times the size of their
file where that is more: images and numbers shrink less, files made to fill the memory shrink more.
Arrays of mostly zeros shrink as much, but say their size: they may take half of the memory.
"""

import os
from pathlib import Path

from univae.errors import InputError

__all__ = [
    "IN_MEMORY",
    "most_unpacked",
    "require_fits",
    "require_plausible",
    "require_readable_file",
]

IN_MEMORY = 2**28  # bytes of data that are read into memory, whatever their file is like
MOST_RATIO = 100  # bytes of data for a byte of a compressed file
MIB = 2**20


def most_unpacked(packed: int) -> int:
    """Return the most bytes that a file or member of ``packed`` bytes may unpack to."""
    return max(IN_MEMORY, MOST_RATIO * packed)


def require_plausible(packed: int, unpacked: int, source: str) -> None:
    """Raise :class:`InputError` where data of ``packed`` bytes unpack to far more than usual.

    Args:
        packed: bytes of the file, or of the member of an archive.
        unpacked: bytes that it declares, or that were unpacked up to now.
        source: the file, for the message.
    """
    most = most_unpacked(packed)
    if unpacked > most:
        raise InputError(
            f"{source} unpacks to {unpacked / MIB:.0f} MiB or more; a file of {packed} bytes may "
            f"unpack to {most / MIB:.0f} MiB ({MOST_RATIO} times its size, 256 MiB at least); "
            "unpack it, and give the larger file"
        )


def require_fits(size: int, source: str) -> None:
    """Raise :class:`InputError` where an array of ``size`` bytes takes over half of the memory.

    Arrays of up to 256 MiB are never refused.
    """
    most = max(IN_MEMORY, memory() // 2)
    if size > most:
        raise InputError(
            f"{source} takes {size / MIB:.0f} MiB of memory, and may take {most / MIB:.0f} MiB, "
            "half of this machine's; save it with numpy.save as an .npy, which is mapped"
        )


def memory() -> int:
    """Return the bytes of memory of this machine; 0 where the system does not say it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def require_readable_file(path: Path, *, pipes: bool = False) -> None:
    """Raise :class:`InputError` for a device, which may never end; for a pipe unless ``pipes``."""
    if path.is_file() or path.is_dir() or (pipes and path.is_fifo()):
        return
    kind = "a pipe, which can be read only once" if path.is_fifo() else "a device, not a file"
    raise InputError(f"{path} is {kind}; write the data to a file, and give that")
