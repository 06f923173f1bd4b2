"""Data in memory as files of the formats that commands read."""

import filecmp
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from experiments.data.frame_files import FRAME, is_frame_file, write_frame
from experiments.data.own_folders import make_own
from univae.as_texts import as_texts
from univae.atomic_files import replacing_file
from univae.checkpoint import write_text_atomic
from univae.errors import InputError

__all__ = ["ROWS", "SIMILAR", "TEXTS", "Format", "write_once"]

Data: TypeAlias = Any  # a list, an array, or an object of pandas

FEWEST_CELLS = 2  # texts of a pair
NUMBERS = "biuf"  # kinds of NumPy's dtypes: booleans, whole and real numbers
FEWEST_AXES = 2  # of rows
SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True)
class Format:
    """How a kind of data in memory becomes a file."""

    suffix: Callable[[Data], str]
    write: Callable[[Data, Path], None]
    in_memory: Callable[[Data], bool]  # whether a value is data, and not a name or a path


def write_once(data: Data, path: Path, form: Format) -> None:
    """Write data to a file; where it exists, of a run that is resumed, only compare them.

    Raises:
        InputError: the file exists and holds other data.
    """
    if not path.exists():
        make_own(path.parent)
        form.write(data, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        form.write(data, copy)
        if not filecmp.cmp(copy, path, shallow=False):
            raise InputError(
                f"{path.parent.parent} was started with other data than these; give the same data, "
                "or leave them out, or train in a new folder"
            )


def _write_texts(data: Data, path: Path) -> None:
    who = "train_text"
    texts = as_texts(data, who)
    if texts and all(map(os.path.isfile, texts)):
        raise InputError(
            f"{who}: every text of the list is the name of a file, such as {texts[0][:SHOWN]!r}; "
            "give [Path(name) for name in names] to read the files"
        )
    _write_lines([" ".join(text.split("\n")) for text in texts], path, who)


def _write_lines(lines: Sequence[str], path: Path, who: str) -> None:
    """Write a file of one line per datum.

    Raises:
        InputError: there is no line, or one holds half of a surrogate pair, which UTF-8 cannot
            encode.
    """
    if not lines:
        raise InputError(f"{who}: the data in memory are empty; give at least one row")
    for row, line in enumerate(lines):
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{who}: row {row} (from 0) holds {line[error.start]!r}, half of a surrogate pair, "
                "which UTF-8 cannot encode; remove it"
            ) from error
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def _are_texts(data: Data) -> bool:
    """Return whether a value holds texts; one string names a file, and so do paths in a list."""
    if isinstance(data, list | tuple):
        return not data or not all(isinstance(entry, Path) for entry in data)
    return not isinstance(data, str | Path)


def _write_pairs(data: Data, path: Path) -> None:
    rows = data.to_numpy().tolist() if hasattr(data, "to_numpy") else list(data)
    lines = []
    for number, row in enumerate(rows):
        cells = list(row) if isinstance(row, list | tuple | np.ndarray) else [row]
        if len(cells) < FEWEST_CELLS:
            raise InputError(
                f"train_similar: pairs must be tuples (a, b) or (a, b, label); row {number} "
                f"(from 0) is {str(row)[:SHOWN]!r}"
            )
        lines.append(json.dumps([_plain(cell) for cell in cells], ensure_ascii=False))
    _write_lines(lines, path, "train_similar")


def _plain(cell: object) -> object:
    """Return a cell as a type that JSON has: NumPy's scalars as Python's."""
    return cell.item() if isinstance(cell, np.generic) else cell


def _are_pairs(data: Data) -> bool:
    """Return whether a value holds pairs; strings and paths, alone or in a list, name files."""
    if isinstance(data, str | Path):
        return False
    if isinstance(data, list | tuple):
        return not data or not all(isinstance(entry, str | Path) for entry in data)
    return True


def _write_rows(data: Data, path: Path) -> None:
    if is_frame_file(path):
        write_frame(data, path)
        return
    values = _array(data)
    if values.ndim < FEWEST_AXES or not values.size:
        raise InputError(
            "train: data in memory must have a row or more, and a shape such as (N, columns) or "
            f"(N, height, width); got shape {values.shape}; reshape them"
        )
    if values.dtype.kind not in NUMBERS:
        raise InputError(
            f"train: data in memory must be numbers; got dtype {values.dtype}; "
            "convert the columns, or leave some out"
        )
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def _rows_suffix(data: Data) -> str:
    """Return the end of the file's name of a data frame, or of an array."""
    return FRAME if hasattr(data, "columns") else ".npy"


def _array(data: Data) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise InputError(
            "train: data in memory must be rows of one shape; got rows of different lengths; make "
            "them equally long"
        ) from error


def _are_rows(data: Data) -> bool:
    return not isinstance(data, str | Path)


TEXTS = Format(lambda _: ".txt", _write_texts, _are_texts)
SIMILAR = Format(lambda _: ".jsonl", _write_pairs, _are_pairs)
ROWS = Format(_rows_suffix, _write_rows, _are_rows)
