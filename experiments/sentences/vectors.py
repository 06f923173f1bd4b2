"""The vectors of a corpus' texts, one row a text, which are computed once and stored in a file.

A file that is damaged or was computed from other texts, weights or options is replaced.
"""

from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from tqdm import tqdm

from experiments.data.outputs import Output
from experiments.data.texts import TextFiles
from experiments.sentences.notes import sentence_notes
from experiments.sentences.teacher import RECOMPUTED, fingerprint_file
from experiments.sentences.vector_cache import cached_files, writable_file
from experiments.sentences.vector_file import (
    read_matrix,
    unchecked_outputs,
    vector_outputs,
    write_description,
)
from univae.checkpoint import JsonObject
from univae.disk_errors import reserve
from univae.errors import InputError
from univae.mapped_files import map_array
from univae.sentence.trained import TrainedSimilar
from univae.text.corpus import Removed, fingerprint_texts
from univae.text.tally import Tally

__all__ = ["Precision", "Vectors", "require_cosines", "texts_at", "vectors_of"]

Precision = Literal["float32", "float16"]
# How far a cosine may lie outside [-1, 1]: rounding to float16 changes a length by up to 2^-11.
ROUNDING = {"float32": 1e-4, "float16": 2e-3}


class Vectors(NamedTuple):
    """The vectors of a corpus."""

    matrix: np.ndarray  # (texts, width), mapped
    path: Path  # of the matrix
    cached: bool  # whether they were read from the file
    tally: Tally  # texts that were cut, words that are unknown
    notes: list[str]  # on lines left out, texts cut, and unknown words


def vectors_of(
    run: TrainedSimilar,
    corpus: TextFiles,
    file: Path | None,
    precision: Precision,
    overwrite: bool = False,
) -> Vectors:
    """Return the vectors of the texts of ``corpus``.

    ``file`` is the file of the matrix, by default one in the run folder or the user's cache: see
    :mod:`experiments.sentences.vector_cache`. A matrix that this function wrote is computed again
    where corpus, weights or precision have changed; any other file of these names, .npy or .json,
    is replaced only with ``overwrite``.
    """
    corpus.require_rereadable("--corpus")
    outputs = None
    if file is not None:
        outputs = vector_outputs(file, (run.path, *corpus.names), overwrite=overwrite)
    removed = Removed()
    recipe = _recipe(run, corpus, precision, removed)
    if outputs is None:
        stored = _cached(run, corpus, recipe)
    else:
        stored = _stored(outputs, run, recipe)
    vectors = stored or _computed(run, corpus, recipe, outputs)
    source = f"--corpus {corpus.name}"
    notes = [*removed.notes(source), *sentence_notes(run, source, vectors.tally)]
    return vectors._replace(notes=notes)


def _cached(run: TrainedSimilar, corpus: TextFiles, recipe: JsonObject) -> Vectors | None:
    """Return the vectors of a file of the run folder, the user's cache, or beside the corpus."""
    for path in cached_files(run.path, corpus, recipe):
        vectors = _stored(unchecked_outputs(path), run, recipe)
        if vectors is not None:
            return vectors
    return None


def _stored(
    outputs: tuple[Output, Output], run: TrainedSimilar, recipe: JsonObject
) -> Vectors | None:
    """Return the vectors of a file; None where they are missing, damaged, or of another recipe."""
    matrix_file, description = outputs
    stored = read_matrix(matrix_file, description, recipe, _shape(run, recipe))
    if stored is None:
        return None
    matrix, tally = stored
    return Vectors(matrix, matrix_file.path, True, tally, [])


def _computed(
    run: TrainedSimilar,
    corpus: TextFiles,
    recipe: JsonObject,
    outputs: tuple[Output, Output] | None,
) -> Vectors:
    """Compute the vectors, and write them to ``outputs`` or, without these, to the cache."""
    if outputs is None:
        path = writable_file(run.path, recipe)
        outputs = vector_outputs(path, corpus.names, overwrite=True)
    matrix_file, description = outputs
    tally = Tally()
    _encode(run, corpus, matrix_file, _shape(run, recipe), recipe["precision"], tally)
    write_description(description, matrix_file.path, recipe, tally)
    matrix = map_array(matrix_file.path)
    return Vectors(matrix, matrix_file.path, False, tally, [])


def _shape(run: TrainedSimilar, recipe: JsonObject) -> tuple[int, int]:
    return recipe["texts"], run.model.config.width


def _encode(
    run: TrainedSimilar,
    corpus: TextFiles,
    out: Output,
    shape: tuple[int, int],
    precision: Precision,
    tally: Tally,
) -> None:
    """Write the vectors of a corpus, (texts, width); count its texts in ``tally``."""
    bar = tqdm(total=shape[0], desc="encoding", disable=None, leave=False)
    with out.file() as path, bar:
        matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(precision), shape=shape)
        reserve(path, path.stat().st_size)
        start = 0
        for block in run.encode_blocks(corpus.read(), tally):
            matrix[start : start + len(block)] = block
            start += len(block)
            bar.update(len(block))
        matrix.flush()


def require_cosines(scores: list[float], path: Path, precision: Precision) -> None:
    """Raise :class:`InputError` for a cosine outside [-1, 1] by more than rounding."""
    limit = 1 + ROUNDING[precision]
    for score in scores:
        if not abs(score) <= limit:  # also true for NaN
            raise InputError(
                f"{path}: a cosine of {score:.6g}, outside [-1, 1]: damaged; {RECOMPUTED}"
            )


def texts_at(corpus: TextFiles, rows: Collection[int]) -> dict[int, str]:
    """Return the texts of some rows of the matrix, by the number of their row."""
    selected = set(rows)
    texts: dict[int, str] = {}
    for row, text in enumerate(islice(corpus.read(), max(selected, default=-1) + 1)):
        if row in selected:
            texts[row] = text
    return texts


def _recipe(run: TrainedSimilar, corpus: TextFiles, precision: str, removed: Removed) -> JsonObject:
    """Return all that the vectors depend on; count the lines left out in ``removed``."""
    texts, fingerprint = fingerprint_texts(corpus.read(removed))
    return {
        "texts": texts,
        "fingerprint": fingerprint,
        "weights": fingerprint_file(run.weights),
        "tokenizer": fingerprint_file(run.path / "tokenizer.json"),
        "max_length": run.text.max_length,
        "lowercase": run.text.lowercase,
        "precision": precision,
    }
