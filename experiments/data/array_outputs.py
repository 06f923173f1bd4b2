"""Results of commands as files: arrays, columns, texts and pictures, in the format of the suffix.

A command says which *parts* its result has, checks ``--out`` by :func:`result_file` before it
computes, and writes a :class:`Contents` by :func:`write_result`, or its rows as they come into a
:func:`growing_result`. A new format is a row of :data:`WRITERS`.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np

from experiments.data.contents import Column, Contents
from experiments.data.growing_files import (
    ArrayRows,
    Csv,
    Gathered,
    GrowingFile,
    JsonLines,
    json_line,
)
from experiments.data.numpy_files import write_npz
from experiments.data.outputs import Output
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.exported import is_unpacked
from univae.run_folder import RunFolder

__all__ = [
    "CODES",
    "IMAGES",
    "IMAGE_PATH",
    "TABLE",
    "TEXTS",
    "WRITERS",
    "Column",
    "Contents",
    "Part",
    "code_columns",
    "growing_result",
    "holds_text",
    "is_animation",
    "json_line",
    "result_file",
    "result_in_run",
    "write_result",
]

Part: TypeAlias = Literal["texts", "columns", "arrays", "picture", "animation"]

PICTURE = ".png"
ANIMATION = ".gif"
SAMPLES = "samples"  # folder in a run for results without --out

# The parts of a kind of result; the first format of the first part is the default.
TEXTS: tuple[Part, ...] = ("texts", "columns")
TABLE: tuple[Part, ...] = ("columns", "arrays")
CODES: tuple[Part, ...] = ("arrays", "columns")
IMAGES: tuple[Part, ...] = ("arrays", "picture")
IMAGE_PATH: tuple[Part, ...] = (*IMAGES, "animation")


@dataclass(frozen=True)
class Writer:
    """A row of :data:`WRITERS`: the part that a format takes, and how it is written."""

    part: Part
    open: Callable[[BinaryIO], GrowingFile]
    needs: str = ""  # module of an optional extra
    is_text: bool = False  # whether cells have no types


def _write_lines(contents: Contents, file: BinaryIO) -> None:
    """Write one text a line; a line end inside a text becomes a space."""
    for text in contents.texts:
        file.write(f"{' '.join(text.split(chr(10)))}\n".encode())


def _write_parquet(contents: Contents, file: BinaryIO) -> None:
    import pandas

    columns: dict[str, Any] = dict(contents.columns)
    for name, column in contents.columns.items():
        # pandas would turn whole numbers beside missing ones into floats
        if None in column and all(cell is None or isinstance(cell, int) for cell in column):
            columns[name] = pandas.array(list(column), dtype="Int64")
    pandas.DataFrame(columns).to_parquet(file, index=False)


def _write_npz(contents: Contents, file: BinaryIO) -> None:
    write_npz(file, contents.arrays)


def _write_picture(contents: Contents, file: BinaryIO) -> None:
    file.write(contents.picture)


def _write_animation(contents: Contents, file: BinaryIO) -> None:
    file.write(contents.animation)


def _gathered(write: Callable[[Contents, BinaryIO], object]) -> Callable[[BinaryIO], GrowingFile]:
    return partial(Gathered, write=write)


WRITERS: Mapping[str, Writer] = {
    ".txt": Writer("texts", _gathered(_write_lines)),
    ".csv": Writer("columns", Csv, is_text=True),
    ".tsv": Writer("columns", partial(Csv, separator="\t"), is_text=True),
    ".jsonl": Writer("columns", JsonLines),
    ".parquet": Writer("columns", _gathered(_write_parquet), needs="pyarrow"),
    ".npz": Writer("arrays", _gathered(_write_npz)),
    ".npy": Writer("arrays", ArrayRows),
    PICTURE: Writer("picture", _gathered(_write_picture)),
    ANIMATION: Writer("animation", _gathered(_write_animation)),
}


def result_file(
    path: Path,
    parts: Sequence[Part],
    inputs: Sequence[str | Path],
    *,
    overwrite: bool = False,
) -> Output:
    """Return the checked output of a result, in a format that takes one of its parts.

    A result with a picture has it in a .png beside the file, which is checked, too.

    Args:
        path: ``--out``.
        parts: the parts of the result.
        inputs: what the command reads: the run, and data; empty names are left out.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: the suffix is of no such format, or needs a library that is not installed, or
            the file breaks a rule of :mod:`experiments.data.outputs`.
    """
    _check_suffix(path, parts)
    sources = [source for source in inputs if str(source)]
    out = Output(path, overwrite, sources).check_file()
    if "picture" in parts and _has_picture_beside(out):
        out.beside(PICTURE).check_file()
    return out


def result_in_run(
    path: Path | None,
    name: str,
    parts: Sequence[Part],
    run: Path,
    inputs: Sequence[str | Path] = (),
    *,
    overwrite: bool = False,
) -> Output:
    """Return :func:`result_file`, by default ``samples/NAME`` in the run, which may be replaced.

    Raises:
        InputError: see :func:`result_file`; or the run is no run folder.
    """
    if path is None and is_unpacked(run):
        raise InputError(
            "--out is needed, for the run is an export or of the hub, which is not written into"
        )
    if path is None:
        path = RunFolder.open(run).subfolder(SAMPLES) / name
        overwrite = True
    return result_file(path, parts, (run, *inputs), overwrite=overwrite)


def write_result(out: Output, contents: Contents) -> JsonObject:
    """Write a result, and its picture beside it; return the paths ``file`` and ``picture``."""
    parts: list[Part] = []
    for part in ("arrays", "columns", "texts", "picture", "animation"):
        if getattr(contents, part):
            parts.append(part)
    writer = _writer(out.path, parts)
    with growing_result(out, parts) as growing:
        growing.add(contents)

    files: JsonObject = {"file": str(out.path)}
    if writer.part == "picture":
        files["picture"] = files["file"]
    elif contents.picture and _has_picture_beside(out):
        picture = out.beside(PICTURE)
        picture.write_bytes(contents.picture)
        files["picture"] = str(picture.path)
    return files


@contextmanager
def growing_result(out: Output, parts: Sequence[Part]) -> Iterator[GrowingFile]:
    """Yield the file of a result whose rows come in parts, complete when the block ends.

    A .csv, .tsv, .jsonl and .npy are written while the rows come; other formats keep them all.

    Args:
        out: what :func:`result_file` returned.
        parts: the parts of the result, as there.
    """
    with out.file() as temporary, temporary.open("wb") as file:
        growing = _writer(out.path, parts).open(file)
        yield growing
        growing.finish()


def holds_text(out: Output) -> bool:
    """Return whether the format of a file of columns holds texts, without types of cells."""
    return _writer(out.path, ("columns",)).is_text


def is_animation(out: Output) -> bool:
    """Return whether the name ends as that of an animation."""
    return out.path.suffix.lower() == ANIMATION


def code_columns(codes: np.ndarray, name: str = "z") -> dict[str, np.ndarray]:
    """Return the columns of codes (N, ...) by name: z0, z1, ..., or z0_0, z0_1, ... of layers.

    >>> list(code_columns(np.zeros((1, 2, 2))))
    ['z0_0', 'z0_1', 'z1_0', 'z1_1']
    """
    columns = {}
    for index in np.ndindex(codes.shape[1:]):
        columns[name + "_".join(map(str, index))] = codes[(slice(None), *index)]
    return columns


def _writer(path: Path, parts: Sequence[Part]) -> Writer:
    """Return the writer of a path's suffix, or for a device or pipe the default one."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is not None and writer.part in parts:
        return writer
    return next(writer for part in parts for writer in WRITERS.values() if writer.part == part)


def _has_picture_beside(out: Output) -> bool:
    """Return whether the name ends as a format that is no image, which that of a device may not."""
    return out.path.suffix.lower() in WRITERS.keys() - {PICTURE, ANIMATION}


def _check_suffix(path: Path, parts: Sequence[Part]) -> None:
    """Raise InputError unless the suffix is that of a format which can be written here."""
    if path.exists() and not path.is_file():
        return  # a device or a pipe has no suffix, and a folder is refused as an output
    suffix = path.suffix.lower()
    suffixes = [name for name, writer in WRITERS.items() if writer.part in parts]
    if suffix not in suffixes:
        *names, last = suffixes
        listed = f"{', '.join(names)} or {last}"
        raise InputError(f"--out {path}: must end in {listed}; give one of these")
    needed = WRITERS[suffix].needs
    if needed and importlib.util.find_spec(needed) is None:
        raise InputError(f"--out {path}: {suffix} needs {needed}; pip install 'univae[tables]'")
