"""A teacher's vectors of the texts of a run: from another run's model, or a table that anything may have made.

A table is a ``.npz`` with ``texts`` (N,) and ``vectors`` (N, width); texts are compared as they are, but for white
space at their ends.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.similar_run import SimilarRun
from univae.checkpoint import replacing_file
from univae.errors import InputError

__all__ = ["read_table", "teach", "write_table"]


def teach(teacher: Path, texts: Sequence[str], out: Path, device: str = "auto") -> np.ndarray:
    """Writes the vectors of ``texts``, of length 1, to the file ``out``, unless it is there, and maps it."""
    if not out.exists():
        vectors = SimilarRun(teacher, device).vectors(texts) if teacher.is_dir() else _looked_up(teacher, texts)
        vectors = vectors.astype(np.float32)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        with replacing_file(out) as path, path.open("wb") as file:
            np.save(file, (vectors / np.maximum(length, 1e-12)))
    return np.load(out, mmap_mode="r", allow_pickle=False)


def write_table(path: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """Writes a table, whole or not at all."""
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, texts=np.array(texts), vectors=vectors)


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Reads a table; :class:`InputError` for anything else."""
    what = "a .npz with texts (N,) and vectors (N, width), or the run folder of train-similar"
    if not path.is_file():
        raise InputError(f"teacher: {path} does not exist; give {what}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            texts, vectors = arrays["texts"], arrays["vectors"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"teacher: {path} is no table ({error}); give {what}") from error
    if texts.ndim != 1 or texts.dtype.kind != "U" or vectors.ndim != 2 or len(texts) != len(vectors):
        shapes = f"{texts.dtype} {texts.shape} and {vectors.dtype} {vectors.shape}"
        raise InputError(f"teacher: {path} holds {shapes}; give {what}")
    if vectors.dtype.kind != "f" or not np.isfinite(vectors).all():
        raise InputError(f"teacher: vectors in {path} must be finite real numbers; got {vectors.dtype}")
    return [text.strip() for text in texts.tolist()], vectors


def _looked_up(path: Path, texts: Sequence[str]) -> np.ndarray:
    known, vectors = read_table(path)
    place = {text: i for i, text in enumerate(known)}
    missing = [text for text in texts if text not in place]
    if missing:
        raise InputError(
            f"teacher: {path} lacks {len(missing)} of {len(texts)} texts, {missing[0][:60]!r} first; add their vectors"
        )
    return vectors[[place[text] for text in texts]]
