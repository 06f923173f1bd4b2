"""Data in memory as files of the formats that commands read."""

import filecmp
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from experiments.data.readers import READERS
from univae.as_texts import as_texts
from univae.atomic_files import replacing_file
from univae.checkpoint import write_text_atomic
from univae.errors import InputError

__all__ = ["ROWS", "SIMILAR", "TEXTS", "Format", "write_once"]

Data: TypeAlias = Any  # a list, an array, or an object of pandas

FEWEST_CELLS = 2  # texts of a pair
NUMBERS = "biuf"  # kinds of NumPy's dtypes: booleans, whole and real numbers
CSV = ".csv"
TABLE = "table"  # row of READERS that reads tables with named columns


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
        path.parent.mkdir(parents=True, exist_ok=True)
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
    texts = [" ".join(text.split("\n")) for text in as_texts(data, "train_text")]
    write_text_atomic(path, "".join(f"{text}\n" for text in texts))


def _are_texts(data: Data) -> bool:
    """Return whether a value holds texts; one string names a file, and so do paths in a list."""
    if isinstance(data, list | tuple):
        return not all(isinstance(entry, Path) for entry in data)
    return not isinstance(data, str | Path)


def _write_pairs(data: Data, path: Path) -> None:
    rows = data.to_numpy().tolist() if hasattr(data, "to_numpy") else list(data)
    lines = []
    for number, row in enumerate(rows):
        cells = list(row) if isinstance(row, list | tuple | np.ndarray) else [row]
        if len(cells) < FEWEST_CELLS:
            raise InputError(
                f"train_similar: pairs must be tuples (a, b) or (a, b, label); row {number} "
                f"(from 0) is {str(row)[:60]!r}"
            )
        lines.append(json.dumps([_plain(cell) for cell in cells], ensure_ascii=False))
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def _plain(cell: object) -> object:
    """Return a cell as a type that JSON has: NumPy's scalars as Python's."""
    return cell.item() if isinstance(cell, np.generic) else cell


def _are_pairs(data: Data) -> bool:
    """Return whether a value holds pairs; strings and paths, alone or in a list, name files."""
    if isinstance(data, str | Path):
        return False
    if isinstance(data, list | tuple):
        return not all(isinstance(entry, str | Path) for entry in data)
    return True


def _write_rows(data: Data, path: Path) -> None:
    if path.suffix == CSV:
        with replacing_file(path) as temporary:
            data.to_csv(temporary, index=False)
        return
    values = np.asarray(data)
    if values.dtype.kind not in NUMBERS:
        raise InputError(
            f"train: data in memory must be numbers; got dtype {values.dtype}; "
            "convert the columns, or leave some out"
        )
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def _rows_suffix(data: Data) -> str:
    """Return the suffix of a table with named columns, where a reader has them, or of an array."""
    return CSV if hasattr(data, "columns") and TABLE in READERS else ".npy"


def _are_rows(data: Data) -> bool:
    return not isinstance(data, str | Path)


TEXTS = Format(lambda _: ".txt", _write_texts, _are_texts)
SIMILAR = Format(lambda _: ".jsonl", _write_pairs, _are_pairs)
ROWS = Format(_rows_suffix, _write_rows, _are_rows)
