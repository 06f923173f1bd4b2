"""NumPy's files as data sets: .npy, mapped where it is large, and .npz, an archive of arrays."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from experiments.data.arrays import Data
from experiments.data.interpretation import interpret
from experiments.data.memory_bounds import IN_MEMORY, require_fits
from experiments.data.sources import has_suffix
from univae.errors import InputError
from univae.mapped_files import map_array, read_header

__all__ = ["NpyFile", "NpzFile", "read_member", "write_npz"]

VALUE_NAMES = ("images", "x")  # the array that is read, if there is one of these names
LABEL_NAMES = ("labels", "y")
MEMBER = ".npy"  # end of the names of an archive's arrays
MAGIC = b"\x93NUMPY"
HEADER_OFFSET = 12  # of an .npy of version 2 or 3
LENGTH_BYTES = 4
LONGEST_HEADER = 10_000  # bytes; as np.load has it, which reads it first


class NpyFile:
    """One array: in memory up to 256 MiB, mapped from its file where it is larger."""

    summary = ".npy"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .npy."""
        return has_suffix(path, ".npy")

    def read(self, path: Path) -> Data:
        """Return the array of the file, without labels; a note says where it is mapped.

        Rewriting a mapped file ends the process that reads it with the signal SIGBUS.
        """
        _require_short_header(path)
        array = map_array(path)
        if array.nbytes <= IN_MEMORY:
            return interpret(np.array(array), None, path.stem, str(path))
        note = f"{path.name} is mapped, not copied: leave the file unchanged while it is in use"
        return interpret(array, None, path.stem, str(path), [note])


class NpzFile:
    """The array ``images`` or ``x``, else the first, and maybe ``labels`` or ``y``."""

    summary = ".npz"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .npz."""
        return has_suffix(path, ".npz")

    def read(self, path: Path) -> Data:
        """Return the values and labels of the archive; a note names the arrays left out.

        Raises:
            InputError: it holds no array, or one that takes over half of the memory.
        """
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(MEMBER)]
            arrays = [name.removesuffix(MEMBER) for name in members]
            label_name = _first_of(LABEL_NAMES, arrays)
            names = [name for name in arrays if name != label_name]
            if not names:
                raise InputError(f"{path} holds no array of data; save one as 'images' or 'x'")

            value_name = _first_of(VALUE_NAMES, names) or names[0]
            left_out = [repr(name) for name in names if name != value_name]
            notes = []
            if left_out:
                notes.append(
                    f"{path.name}: array {value_name!r} is read; left out: {', '.join(left_out)}"
                )

            labels = None if label_name is None else read_member(archive, label_name, path)
            source = f"{path}, array {value_name!r}"
            values = read_member(archive, value_name, path)
            return interpret(values, labels, path.stem, source, notes)


def _require_short_header(path: Path) -> None:
    """Raise :class:`InputError` for a header that is longer than NumPy's are: it would be read."""
    with path.open("rb") as file:
        start = file.read(HEADER_OFFSET)
    is_long = start[len(MAGIC) : len(MAGIC) + 1] > b"\1"  # four bytes hold its length, not two
    length = int.from_bytes(start[-LENGTH_BYTES:], "little") if is_long else 0
    if start.startswith(MAGIC) and length > LONGEST_HEADER:
        raise InputError(
            f"{path} has a header of {length} bytes, and one may have {LONGEST_HEADER}; "
            "save it again"
        )


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """Return an array of an .npz archive, the file ``path``.

    Raises:
        InputError: its header contradicts the size of the member, or it takes over half of the
            memory.
        KeyError: there is no such array.
    """
    info = archive.getinfo(name + MEMBER)
    source = f"{path}, array {name!r}"
    require_fits(info.file_size, source)
    with archive.open(info) as file:
        shape, dtype = read_header(cast(BufferedIOBase, file))
        stored = info.file_size - file.tell()
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != stored:
        raise InputError(
            f"{source} should hold {math.prod(shape) * dtype.itemsize} bytes of {shape}; got "
            f"{stored}; save it again"
        )
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz that holds exactly these arrays, under their names.

    Raises:
        InputError: an array holds objects, which NumPy could only pickle. They are refused here
            because ``np.savez_compressed(allow_pickle=False)`` of NumPy 1.x stores the option as an
            array of that name.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise InputError(f"array {name!r} holds Python objects; an .npz takes numbers and text")
    # stubs of NumPy 2 read every keyword as the option allow_pickle, a bool
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _first_of(candidates: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in candidates if name in names), None)
