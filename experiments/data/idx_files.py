"""IDX files of unsigned bytes, the format of MNIST, plain or gzipped.

References:
    The MNIST database of handwritten digits (LeCun, Cortes & Burges, 1998),
    http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
from pathlib import Path

import numpy as np

from experiments.data.arrays import Data
from experiments.data.interpretation import interpret
from univae.errors import InputError

__all__ = ["IdxFile"]

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTES = b"\0\0\x08"  # the first three bytes of the header; the fourth counts the axes
AXES_OFFSET = 3
SHAPE_OFFSET = 4
SIZE_BYTES = 4  # of the length of one axis, the most significant byte first


class IdxFile:
    """Unsigned bytes of any shape, with the labels of a second file of the same folder.

    The file of labels is named ``labels`` where this one is named ``images``.
    """

    summary = "IDX(.gz)"

    def recognises(self, path: Path) -> bool:
        """Return True: IDX files have no suffix, so :meth:`read` checks the magic number.

        The file is not opened here because a pipe can be read only once.
        """
        return True

    def read(self, path: Path) -> Data:
        """Return the array of the file, and the labels of the file beside it if there is one."""
        label_name = path.name.replace("images", "labels").replace("idx3", "idx1")
        label_path = path.with_name(label_name)
        labels = None
        notes = []
        if label_name != path.name and label_path.exists():
            labels = _read_array(label_path)
            notes.append(f"{path.name}: labels are read from {label_name} beside it")

        name = path.name.split(".")[0]
        return interpret(_read_array(path), labels, name, str(path), notes)


def _read_array(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if content.startswith(GZIP_MAGIC):
        content = gzip.decompress(content)
    if not content.startswith(UNSIGNED_BYTES) or len(content) < SHAPE_OFFSET:
        raise InputError(
            f"{path} is neither an image set nor IDX of unsigned bytes; convert it to .npy or PNG"
        )

    start = SHAPE_OFFSET + SIZE_BYTES * content[AXES_OFFSET]
    if len(content) < start:
        raise InputError(
            f"{path} ends inside its header, after {len(content)} bytes; copy it again"
        )
    sizes = []
    for offset in range(SHAPE_OFFSET, start, SIZE_BYTES):
        sizes.append(int.from_bytes(content[offset : offset + SIZE_BYTES], "big"))
    shape = tuple(sizes)

    stored = len(content) - start
    if stored != math.prod(shape):
        raise InputError(
            f"{path} should hold {math.prod(shape)} bytes of {shape}; got {stored}; copy it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
