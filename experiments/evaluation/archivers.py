"""Sizes of data in general-purpose formats: gzip, bz2, xz, and PNG for images, at best settings.

Folders are measured as a tar file, which these formats compress.
"""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Sequence

import numpy as np

from density.likelihoods.distributions import BINARY
from experiments.data.trees import Member

__all__ = ["array_sizes", "image_sizes", "text_sizes", "tree_sizes", "xz_primed"]

STRONGEST = 9  # compression level of gzip, bz2 and xz
XZ_PRESET = STRONGEST | lzma.PRESET_EXTREME
SMALLEST_WINDOW = 4096  # bytes; bounds of a dictionary in the xz format
LARGEST_WINDOW = 1536 * 2**20


def text_sizes(content: bytes) -> dict[str, int]:
    """Return the sizes of the content in gzip, bz2 and xz, in bytes."""
    return {
        "gzip": len(gzip.compress(content, STRONGEST, mtime=0)),
        "bz2": len(bz2.compress(content, STRONGEST)),
        "xz": len(lzma.compress(content, preset=XZ_PRESET)),
    }


def array_sizes(values: np.ndarray) -> dict[str, int]:
    """Return the sizes of an array in gzip, bz2 and xz, in bytes.

    Zeros and ones are also packed, eight to a byte; the smaller size is returned.
    """
    sizes = text_sizes(np.ascontiguousarray(values).tobytes())
    if values.min() < 0 or values.max() > 1:
        return sizes

    bits = np.packbits(values.reshape(len(values), -1).astype(bool), axis=1)
    packed = text_sizes(bits.tobytes())
    return {name: min(size, packed[name]) for name, size in sizes.items()}


def image_sizes(values: np.ndarray, levels: int) -> dict[str, int]:
    """Return the sizes of :func:`array_sizes`, and the sum of one PNG per image as ``png``.

    Images are (N, 1 to 4, height, width) of up to 256 levels; two levels have 1 bit a pixel.
    """
    from PIL import Image

    total = 0
    for image in values.astype(np.uint8):
        if len(image) == 1:
            picture = Image.fromarray(image[0].astype(bool) if levels == BINARY else image[0])
        else:
            picture = Image.fromarray(np.moveaxis(image, 0, -1))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        total += buffer.tell()
    return array_sizes(values) | {"png": total}


def tree_sizes(members: Sequence[Member]) -> dict[str, int]:
    """Return the sizes of a folder as .tar.gz, .tar.bz2 and .tar.xz, in bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            entry = tarfile.TarInfo(member.name)
            entry.mode = member.mode
            entry.mtime = member.time
            if member.content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(member.content)
            archive.addfile(entry, io.BytesIO(member.content or b""))
    return text_sizes(buffer.getvalue())


def xz_primed(content: bytes, training: bytes) -> int:
    """Return the bytes that the content adds to ``training`` in one xz file.

    The window holds both, so that xz can use the training set as a trained model does.
    """
    window = min(max(SMALLEST_WINDOW, len(content) + len(training)), LARGEST_WINDOW)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": XZ_PRESET, "dict_size": window}]
    both = len(lzma.compress(training + content, filters=filters))
    return both - len(lzma.compress(training, filters=filters))
