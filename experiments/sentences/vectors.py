"""The vectors of a file's texts on disk, made once: one row a text, memory-mapped, whole or not there.

``NAME.npy`` holds the matrix and ``NAME.json``, written last, what it was made from, the texts and
the weights, and a checksum of the matrix. A file made from anything else, or damaged, is made
again.
"""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from experiments.data.outputs import Output
from experiments.data.text_notes import Tally
from experiments.data.texts import require_rereadable
from experiments.sentences.run import SimilarRun
from experiments.sentences.teacher import MADE_AGAIN, fingerprint_file
from univae.checkpoint import read_json
from univae.errors import InputError
from univae.text.corpus import UNREADABLE_ARRAY, Removed, fingerprint_texts, read_lines

__all__ = ["Precision", "Vectors", "require_cosines", "texts_at", "vectors_of"]

Precision = Literal["float32", "float16"]
COUNTS = tuple(asdict(Tally()))
# How far a cosine may lie outside [-1, 1]: rounding to float16 changes a length by up to 2^-11.
ROUNDING = {"float32": 1e-4, "float16": 2e-3}


class Vectors(NamedTuple):
    """The vectors of a corpus, and how they came about."""

    matrix: np.ndarray  # (texts, width), mapped
    path: Path  # of the matrix
    cached: bool  # they were there already
    tally: Tally  # texts that were cut, words that are unknown
    notes: list[str]  # what was left out, cut or unknown


def vectors_of(
    run: SimilarRun, corpus: Path, cache: Path | None, precision: Precision, overwrite: bool = False
) -> Vectors:
    """Return the vectors of the texts of ``corpus``, one a line.

    ``cache`` is the file of the matrix, by default ``CORPUS.vectors.npy`` beside the corpus. A
    matrix that this function wrote is made again where corpus, weights or precision have changed;
    any other file of these names, .npy or .json, is replaced only with ``overwrite``.
    """
    require_rereadable("--corpus", corpus)
    matrix_file, description = _outputs(run, corpus, cache, overwrite)
    path = matrix_file.path
    removed = Removed()
    recipe = _recipe(run, corpus, precision, removed)
    shape = (recipe["texts"], run.model.config.width)
    stored = _stored(path, recipe, shape)
    if stored is not None:
        matrix, tally = stored
    else:
        tally = Tally()
        _encode(run, corpus, matrix_file, shape, precision, tally)
        content = {**recipe, **asdict(tally), "checksum": fingerprint_file(path)}
        description.write_text(json.dumps(content, indent=2) + "\n")
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    source = f"--corpus {corpus}"
    notes = [*removed.notes(source), *run.notes(source, tally)]
    return Vectors(matrix, path, stored is not None, tally, notes)


def _outputs(
    run: SimilarRun, corpus: Path, cache: Path | None, overwrite: bool
) -> tuple[Output, Output]:
    """Return the files of the matrix and of its description, which may be replaced if this command wrote them."""
    path = cache or corpus.with_name(corpus.name + ".vectors.npy")
    if path.suffix != ".npy":
        raise InputError(f"--vectors {path}: the file's name must end in .npy")
    if path.exists() and not path.is_file():
        raise InputError(f"--vectors {path}: is no regular file; the vectors are read back from it")
    description = path.with_suffix(".json")

    def is_ours(_: Path) -> bool:
        return _is_recipe(description)

    inputs = (run.run.path, corpus)
    outputs = (
        Output(path, overwrite, inputs, "--vectors", is_ours),
        Output(description, overwrite, inputs, "--vectors", is_ours),
    )
    if not (path.is_file() and is_ours(path)):  # else a read-only folder may hold what is needed
        for output in outputs:
            output.check_file()
    return outputs


def _encode(
    run: SimilarRun,
    corpus: Path,
    out: Output,
    shape: tuple[int, int],
    precision: Precision,
    tally: Tally,
) -> None:
    """Write the vectors of a corpus."""
    with (
        out.file() as path,
        tqdm(total=shape[0], desc="encoding", disable=None, leave=False) as bar,
    ):
        matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(precision), shape=shape)
        start = 0
        for block in run.blocks(read_lines(corpus), tally):
            matrix[start : start + len(block)] = block
            start += len(block)
            bar.update(len(block))
        matrix.flush()


def require_cosines(scores: list[float], path: Path, precision: Precision) -> None:
    """Raise InputError where a cosine lies outside [-1, 1] by more than rounding."""
    limit = 1 + ROUNDING[precision]
    for score in scores:
        if not abs(score) <= limit:  # true of NaN, too
            raise InputError(
                f"{path}: a cosine of {score:.6g}, outside [-1, 1]: damaged; {MADE_AGAIN}"
            )


def _is_recipe(path: Path) -> bool:
    """Return whether a file is the description of a matrix of vectors that :func:`vectors_of` wrote."""
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and {"texts", "fingerprint", "weights"} <= content.keys()


def texts_at(corpus: Path, rows: list[int]) -> list[str]:
    """The texts of some rows of the matrix."""
    wanted = set(rows)
    found = dict[int, str]()
    for row, text in enumerate(islice(read_lines(corpus), max(rows, default=-1) + 1)):
        if row in wanted:
            found[row] = text
    return [found[row] for row in rows]


def _recipe(run: SimilarRun, corpus: Path, precision: str, removed: Removed) -> dict[str, Any]:
    texts, fingerprint = fingerprint_texts(read_lines(corpus, removed))
    return {
        "texts": texts,
        "fingerprint": fingerprint,
        "weights": fingerprint_file(run.weights),
        "tokenizer": fingerprint_file(run.run.path / "tokenizer.json"),
        "max_length": run.text.max_length,
        "lowercase": run.text.lowercase,
        "precision": precision,
    }


def _stored(
    cache: Path,
    recipe: dict[str, Any],
    shape: tuple[int, int],
) -> tuple[np.ndarray, Tally] | None:
    """Return the matrix in ``cache`` and its counts; None where of something else or damaged."""
    said = cache.with_suffix(".json")
    if not said.is_file() or not cache.is_file():
        return None
    try:
        stored = read_json(said)
    except InputError:
        return None
    if not isinstance(stored, dict) or stored.keys() != {*recipe, *COUNTS, "checksum"}:
        return None
    counts = [stored[name] for name in COUNTS]
    if {**stored, **recipe} != stored or any(type(count) is not int for count in counts):
        return None
    if stored["checksum"] != fingerprint_file(cache):
        return None
    try:
        matrix = np.load(cache, mmap_mode="r", allow_pickle=False)
        whole = matrix.shape == shape and matrix.dtype == np.dtype(recipe["precision"])
    except UNREADABLE_ARRAY:
        return None
    return (matrix, Tally(*counts)) if whole else None
