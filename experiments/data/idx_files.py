"""IDX files of unsigned bytes, the format of MNIST, plain or gzipped.

References:
    The MNIST database of handwritten digits (LeCun, Cortes & Burges, 1998),
    http://yann.lecun.com/exdb/mnist/
"""

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from experiments.data.arrays import Data
from experiments.data.interpretation import interpret
from experiments.data.memory_bounds import require_plausible
from experiments.data.notes import print_notes
from univae.errors import InputError

__all__ = ["IdxFile", "label_name"]

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTES = b"\0\0\x08"  # the first three bytes of the header; the fourth counts the axes
AXES_OFFSET = 3
SHAPE_OFFSET = 4
SIZE_BYTES = 4  # of the length of one axis, the most significant byte first
BLOCK = 2**24  # bytes read at once, so that a header that lies takes no memory


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
        label_path = path.with_name(label_name(path.name))
        labels = None
        notes = []
        if label_path != path and label_path.exists():
            labels = _read_array(label_path)
            notes.append(f"{path.name}: labels are read from {label_path.name} beside it")

        name = path.name.split(".")[0]
        return interpret(_read_array(path), labels, name, str(path), notes)


def label_name(name: str) -> str:
    """Return the name of the file of labels of a file of images; other names as they are."""
    return name.replace("images", "labels").replace("idx3", "idx1")


def _read_array(path: Path) -> np.ndarray:
    with _opened(path) as file:
        shape = _shape(file, path)
        content = _content(file, math.prod(shape), path)
    if len(content) != math.prod(shape):
        raise InputError(
            f"{path} should hold {math.prod(shape)} bytes of {shape}; got "
            f"{_number(content, shape)}; copy it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """Open a file or a pipe, decompressed where its first bytes are those of gzip."""
    if path.is_fifo():
        print_notes([f"{path} is a pipe: reading until its writer closes it"])
    with path.open("rb") as file:
        if file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file


def _shape(file: BufferedIOBase, path: Path) -> tuple[int, ...]:
    """Return the shape in the header of an open file."""
    start = file.read(SHAPE_OFFSET)
    if not start.startswith(UNSIGNED_BYTES) or len(start) < SHAPE_OFFSET:
        raise InputError(
            f"{path} is neither an image set nor IDX of unsigned bytes; convert it to .npy or PNG"
        )
    header = file.read(SIZE_BYTES * start[AXES_OFFSET])
    if len(header) < SIZE_BYTES * start[AXES_OFFSET]:
        raise InputError(
            f"{path} ends inside its header, after {len(start + header)} bytes; copy it again"
        )
    offsets = range(0, len(header), SIZE_BYTES)
    return tuple(int.from_bytes(header[i : i + SIZE_BYTES], "big") for i in offsets)


def _content(file: BufferedIOBase, size: int, path: Path) -> bytearray:
    """Return ``size`` bytes, fewer where the file ends before, one more where it does not end."""
    packed = path.stat().st_size if isinstance(file, gzip.GzipFile) and path.is_file() else None
    content = bytearray()
    while len(content) <= size:
        block = file.read(min(BLOCK, size + 1 - len(content)))
        if not block:
            break
        content += block
        if packed is not None:
            require_plausible(packed, len(content), str(path))
    return content


def _number(content: bytearray, shape: tuple[int, ...]) -> str:
    return "more" if len(content) > math.prod(shape) else str(len(content))
