"""NumPy's files as data sets: .npy, mapped and not loaded, and .npz, an archive of named arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from experiments.data.arrays import Data
from experiments.data.interpretation import interpret
from experiments.data.sources import has_suffix
from univae.errors import InputError

__all__ = ["NpyFile", "NpzFile", "write_npz"]

VALUE_NAMES = ("images", "x")  # the array that is read, if there is one of these names
LABEL_NAMES = ("labels", "y")


class NpyFile:
    """One array, mapped from its file."""

    summary = ".npy"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .npy."""
        return has_suffix(path, ".npy")

    def read(self, path: Path) -> Data:
        """Return the array of the file, without labels."""
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return interpret(array, None, path.stem, str(path))


class NpzFile:
    """The array ``images`` or ``x``, else the first, and maybe ``labels`` or ``y``."""

    summary = ".npz"

    def recognises(self, path: Path) -> bool:
        """Return whether the file's name ends in .npz."""
        return has_suffix(path, ".npz")

    def read(self, path: Path) -> Data:
        """Return the values and labels of the archive; a note names the arrays left out."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            label_name = _first_of(LABEL_NAMES, arrays.files)
            names = [name for name in arrays.files if name != label_name]
            if not names:
                raise InputError(f"{path} holds no array of data; save one as 'images' or 'x'")

            value_name = _first_of(VALUE_NAMES, names) or names[0]
            left_out = [repr(name) for name in names if name != value_name]
            notes = []
            if left_out:
                notes.append(
                    f"{path.name}: array {value_name!r} is read; left out: {', '.join(left_out)}"
                )

            labels = None if label_name is None else arrays[label_name]
            source = f"{path}, array {value_name!r}"
            return interpret(arrays[value_name], labels, path.stem, source, notes)


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
