"""What ordinary archivers make of the same data: gzip, bz2, xz, and PNG for images, at their strongest settings."""

import bz2
import gzip
import io
import lzma

import numpy as np

__all__ = ["array_sizes", "image_sizes", "text_sizes", "xz_primed"]


def text_sizes(content: bytes) -> dict[str, int]:
    """Bytes of the content by gzip, bz2 and xz."""
    return {
        "gzip": len(gzip.compress(content, 9, mtime=0)),
        "bz2": len(bz2.compress(content, 9)),
        "xz": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)),
    }


def array_sizes(values: np.ndarray) -> dict[str, int]:
    """Bytes of an array as it is or, if it holds zeros and ones, packed eight to a byte: the smaller of the two."""
    sizes = text_sizes(np.ascontiguousarray(values).tobytes())
    if values.max() <= 1 and values.min() >= 0:
        packed = text_sizes(
            np.packbits(values.reshape(len(values), -1).astype(bool), axis=1).tobytes()
        )
        sizes = {name: min(size, packed[name]) for name, size in sizes.items()}
    return sizes


def image_sizes(values: np.ndarray, levels: int) -> dict[str, int]:
    """The same with ``png``, the sum of a file each, of images (N, 1 or 3, height, width) of up to 256 levels."""
    from PIL import Image

    total = 0
    for image in values.astype(np.uint8):
        if len(image) == 1:
            picture = Image.fromarray(image[0].astype(bool) if levels == 2 else image[0])
        else:
            picture = Image.fromarray(np.moveaxis(image, 0, -1))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        total += buffer.tell()
    return array_sizes(values) | {"png": total}


def xz_primed(content: bytes, training: bytes) -> int:
    """Bytes that the content adds to ``training`` in one xz file whose window holds both: xz that has read before."""
    window = min(max(4096, len(content) + len(training)), 1536 * 2**20)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window}]
    both = len(lzma.compress(training + content, filters=filters))
    return both - len(lzma.compress(training, filters=filters))
