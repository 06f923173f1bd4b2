"""A matrix of vectors in a file, with a description of its origin; it is memory-mapped.

``NAME.npy`` holds the matrix. ``NAME.json``, written last, holds the texts and weights that it was
computed from, its checksum, and size, times and inode of its file. While these agree the checksum
is not computed again, which would read the whole matrix.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.data.outputs import Output
from experiments.sentences.teacher import fingerprint_file
from univae.checkpoint import JsonObject, read_json
from univae.errors import InputError
from univae.mapped_files import map_array
from univae.text.corpus import UNREADABLE_ARRAY
from univae.text.tally import Tally

__all__ = [
    "read_matrix",
    "stored_checksum",
    "unchecked_outputs",
    "vector_outputs",
    "write_description",
]

COUNTS = tuple(asdict(Tally()))
MATRIX_SUFFIX = ".npy"
CHECKSUM = "checksum"
FILE_STATE = "file"  # absent in descriptions of earlier versions
RECIPE_KEYS = {"texts", "fingerprint", "weights"}  # of every version


def vector_outputs(
    path: Path, inputs: Sequence[str | Path], *, overwrite: bool
) -> tuple[Output, Output]:
    """Return the files of a matrix and of its description.

    They may be replaced if this module wrote the description, otherwise only with ``overwrite``.

    Raises:
        InputError: the path has another suffix than .npy, is no regular file, or must not be
            replaced.
    """
    if path.suffix != MATRIX_SUFFIX:
        raise InputError(f"--vectors {path}: the file's name must end in .npy")
    if path.exists() and not path.is_file():
        raise InputError(f"--vectors {path}: is no regular file; the vectors are read back from it")
    description = path.with_suffix(".json")

    def is_ours(_: Path) -> bool:
        return _is_description(description)

    outputs = (
        Output(path, overwrite, inputs, "--vectors", is_ours),
        Output(description, overwrite, inputs, "--vectors", is_ours),
    )
    if not (path.is_file() and is_ours(path)):  # a read-only folder may hold a matrix to read
        for output in outputs:
            output.check_file()
    return outputs


def unchecked_outputs(path: Path) -> tuple[Output, Output]:
    """Return the files of a matrix that is read, and of its description."""
    return Output(path, option="--vectors"), Output(path.with_suffix(".json"), overwrite=True)


def write_description(out: Output, matrix: Path, recipe: JsonObject, tally: Tally) -> None:
    """Write the description of a new matrix, which is read once for its checksum."""
    content = {**recipe, **asdict(tally), CHECKSUM: fingerprint_file(matrix)}
    _write(out, content, matrix)


def stored_checksum(matrix: Path) -> str:
    """Return the checksum of a matrix that was read or written, from its description."""
    return str(read_json(matrix.with_suffix(".json"))[CHECKSUM])


def read_matrix(
    matrix: Output, description: Output, recipe: JsonObject, shape: tuple[int, int]
) -> tuple[np.ndarray, Tally] | None:
    """Return the mapped matrix and the counts of its texts.

    None where it is missing, damaged, or its ``recipe`` is another.
    """
    path = matrix.path
    content = _description(description.path)
    if content is None or not path.is_file():
        return None
    if {key: content.get(key) for key in recipe} != recipe:
        return None
    if content.keys() - {FILE_STATE} != {*recipe, *COUNTS, CHECKSUM}:
        return None
    counts = [content[name] for name in COUNTS]
    if any(type(count) is not int for count in counts):
        return None
    if content.get(FILE_STATE) != _file_state(path):
        if content[CHECKSUM] != fingerprint_file(path):
            return None
        with suppress(InputError, OSError):  # a read-only folder: the checksum is computed again
            _write(description, content, path)
    mapped = _map(path, shape, str(recipe["precision"]))
    return None if mapped is None else (mapped, Tally(*counts))


def _map(path: Path, shape: tuple[int, int], precision: str) -> np.ndarray | None:
    try:
        matrix = map_array(path)
        complete = matrix.shape == shape and matrix.dtype == np.dtype(precision)
    except UNREADABLE_ARRAY:
        return None
    return matrix if complete else None


def _write(out: Output, content: JsonObject, matrix: Path) -> None:
    described = {**content, FILE_STATE: _file_state(matrix)}
    out.write_text(json.dumps(described, indent=2) + "\n")


def _file_state(path: Path) -> list[int]:
    """Return size, times and inode, of which every change of a file changes at least one."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _description(path: Path) -> JsonObject | None:
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except InputError:
        return None
    return content if isinstance(content, dict) else None


def _is_description(path: Path) -> bool:
    content = _description(path)
    return content is not None and content.keys() >= RECIPE_KEYS
