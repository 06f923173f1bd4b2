"""The vectors of a file's texts on disk, made once: one row a text, memory-mapped, whole or not there.

``NAME.npy`` holds the matrix and ``NAME.json``, written last, what it was made from: the texts and the weights. A file
made from anything else is made again.
"""

import json
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from experiments.outputs import Output
from experiments.similar_run import SimilarRun
from univae.checkpoint import read_json
from univae.corpus import read_lines
from univae.errors import InputError

__all__ = ["Precision", "texts_at", "vectors_of"]

Precision = Literal["float32", "float16"]


def vectors_of(
    run: SimilarRun, corpus: Path, cache: Path | None, precision: Precision, overwrite: bool = False
) -> tuple[np.ndarray, bool]:
    """The vectors (N, width) of the texts of ``corpus``, one a line, mapped; and whether they were there already.

    ``cache`` is the file of the matrix, by default ``CORPUS.vectors.npy`` beside the corpus. A matrix that this
    function wrote is made again where corpus, weights or precision have changed; any other file of these names, .npy
    or .json, is replaced only with ``overwrite``.
    """
    cache = cache or corpus.with_name(corpus.name + ".vectors.npy")
    if cache.suffix != ".npy":
        raise InputError(f"vectors: the file's name ends in .npy; got {cache}")
    if cache.exists() and not cache.is_file():
        raise InputError(f"--vectors {cache}: is no regular file; the vectors are read back from it")
    said = cache.with_suffix(".json")
    inputs = (run.run.path, corpus)
    outputs = [Output(p, overwrite, inputs, "--vectors", lambda _: _is_recipe(said)) for p in (cache, said)]
    if not (cache.is_file() and _is_recipe(said)):
        for output in outputs:
            output.check_file()  # before the corpus is read
    recipe = _recipe(run, corpus, precision)
    if said.is_file() and cache.is_file() and read_json(said) == recipe:
        return np.load(cache, mmap_mode="r", allow_pickle=False), True
    shape = (recipe["texts"], run.model.config.width)
    with outputs[0].file() as path, tqdm(total=shape[0], desc="encoding", disable=None, leave=False) as bar:
        matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(precision), shape=shape)
        start = 0
        for block in run.blocks(read_lines(corpus)):
            matrix[start : start + len(block)] = block
            start += len(block)
            bar.update(len(block))
        matrix.flush()
    outputs[1].write_text(json.dumps(recipe, indent=2) + "\n")
    return np.load(cache, mmap_mode="r", allow_pickle=False), False


def _is_recipe(path: Path) -> bool:
    """Return whether a file is the description of a matrix of vectors that :func:`vectors_of` wrote."""
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and {"texts", "fingerprint", "weights"} <= content.keys()


def texts_at(corpus: Path, rows: list[int]) -> list[str]:
    """The texts of some rows of the matrix."""
    wanted, found = set(rows), dict[int, str]()
    for row, text in enumerate(islice(read_lines(corpus), max(rows, default=-1) + 1)):
        if row in wanted:
            found[row] = text
    return [found[row] for row in rows]


def _recipe(run: SimilarRun, corpus: Path, precision: str) -> dict[str, Any]:
    texts, fingerprint = 0, blake2b(digest_size=16)
    for text in read_lines(corpus):
        data = text.encode("utf-8")
        fingerprint.update(len(data).to_bytes(8, "little") + data)
        texts += 1
    weights = blake2b(digest_size=16)
    for chunk in _chunks(run.weights):
        weights.update(chunk)
    return {
        "texts": texts,
        "fingerprint": fingerprint.hexdigest(),
        "weights": weights.hexdigest(),
        "max_length": run.text.max_length,
        "precision": precision,
    }


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            yield chunk
