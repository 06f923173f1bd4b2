"""A teacher's vectors of the texts of a run: from another run's model, or from a table.

A table is a ``.npz`` with ``texts`` (N,) and ``vectors`` (N, width); texts are compared without
white space at their ends.
"""

import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from experiments.data.numpy_files import read_member
from experiments.evaluation.open_run import open_run
from experiments.sentences.notes import sentence_notes
from experiments.sentences.reduction import reduced
from experiments.training.origin import fingerprint_file
from experiments.training.run_folder import Run
from univae.checkpoint import JsonObject, replacing_file
from univae.dtypes import is_float_array
from univae.errors import InputError
from univae.mapped_files import map_array
from univae.sentence.trained import TrainedSimilar
from univae.text.corpus import UNREADABLE_ARRAY
from univae.text.tally import Tally

__all__ = [
    "fingerprint_file",
    "open_vectors",
    "read_table",
    "teach",
    "teacher_record",
    "token_vectors",
    "write_table",
]

TEACHER = "a .npz with texts (N,) and vectors (N, width), or the run folder of train-similar"

RECOMPUTED = "delete it, and it is computed again"
SHORTEST = 1e-12  # least length that a vector is divided by
QUOTED = 60  # characters of a text in a message


def teach(
    teacher: Path,
    texts: Sequence[str],
    out: Path,
    device: str = "auto",
    notes: list[str] | None = None,
    *,
    width: int | None = None,
    tokens: Collection[str] = (),
) -> np.ndarray:
    """Map the vectors of ``texts``, of length 1, from ``out``; compute them if it does not exist.

    Args:
        teacher: a run folder, or a table.
        texts: the texts.
        out: the file of the vectors.
        device: where a run computes them.
        notes: notes on texts that were cut or left out are appended.
        width: the largest number of features, to which vectors are reduced; None: any.
        tokens: texts that :func:`token_vectors` reads from a table.
    """
    notes = [] if notes is None else notes
    if not out.exists():
        if teacher.is_dir():
            vectors = _compute(teacher, texts, device, notes)
        else:
            vectors = _look_up(teacher, texts, notes, tokens)
        vectors = _of_length_one(vectors.astype(np.float32))
        if width is not None and width < vectors.shape[1]:
            vectors = _of_length_one(reduced(vectors, width))
        with replacing_file(out) as path, path.open("wb") as file:
            np.save(file, vectors)
    return open_vectors(out, len(texts))


def token_vectors(
    teacher: Path, texts: Sequence[str], device: str = "auto", notes: list[str] | None = None
) -> np.ndarray:
    """Return the vectors (N, width) of the texts of tokens, of length 1; NaN where there is none.

    An empty text has no vector, and a table may lack others. Their number is noted in ``notes``.
    """
    rows = [i for i, text in enumerate(texts) if text]
    count = len(rows)
    if teacher.is_dir():
        run = open_run(TrainedSimilar, teacher, device)
        vectors = run.encode([texts[row] for row in rows])
    else:
        table, table_vectors = read_table(teacher)
        row_of = {text: row for row, text in enumerate(table)}
        rows = [i for i in rows if texts[i] in row_of]
        vectors = table_vectors[[row_of[texts[row]] for row in rows]]
    result = np.full((len(texts), vectors.shape[1]), np.nan, np.float32)
    result[rows] = _of_length_one(vectors.astype(np.float32))
    missing = count - len(rows)
    if missing and notes is not None:
        notes.append(
            f"--token-start teacher: the teacher lacks {missing} of {count} tokens; they start at "
            "random"
        )
    return result


def open_vectors(path: Path, count: int) -> np.ndarray:
    """Map the vectors (count, width) that :func:`teach` wrote.

    Raises:
        InputError: the file is damaged, or of other texts.
    """
    try:
        vectors = map_array(path)
        is_complete = vectors.ndim == 2 and len(vectors) == count and vectors.dtype == np.float32
    except UNREADABLE_ARRAY as error:
        raise InputError(f"{path} is damaged ({_reason(error)}); {RECOMPUTED}") from error
    if not is_complete:
        holds = f"{vectors.dtype} {vectors.shape}"
        raise InputError(f"{path} holds {holds}, not float32 of {count} texts; {RECOMPUTED}")
    return vectors


def teacher_record(teacher: Path) -> JsonObject:
    """Return source and fingerprint, of weights and tokenizer or of a table, for ``data.json``."""
    if teacher.is_dir():
        run = Run.open(teacher)
        files = [run.checkpoint() / "model.safetensors", teacher / "tokenizer.json"]
    else:
        _require_file(teacher)
        files = [teacher]
    try:
        fingerprint = "-".join(map(fingerprint_file, files))
    except OSError as error:
        reason = _reason(error)
        raise InputError(
            f"--teacher {teacher} cannot be read ({reason}); give {TEACHER}"
        ) from error
    return {"source": str(teacher), "fingerprint": fingerprint, "count": len(files)}


def write_table(path: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """Write a table, atomically."""
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, texts=np.array(texts), vectors=vectors)


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Read the texts and vectors of a table.

    Raises:
        InputError: the file is no such table, or a vector is not finite.
    """
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            texts = read_member(archive, "texts", path)
            vectors = read_member(archive, "vectors", path)
    except UNREADABLE_ARRAY as error:
        reason = _reason(error)
        raise InputError(f"teacher: {path} is no table ({reason}); give {TEACHER}") from error
    is_table = texts.ndim == 1 and vectors.ndim == 2 and len(texts) == len(vectors)
    if not is_table or not np.issubdtype(texts.dtype, np.str_):
        shapes = f"{texts.dtype} {texts.shape} and {vectors.dtype} {vectors.shape}"
        raise InputError(f"teacher: {path} holds {shapes}; give {TEACHER}")
    if not is_float_array(vectors) or not np.isfinite(vectors).all():
        raise InputError(
            f"teacher: vectors in {path} must be finite real numbers; got {vectors.dtype}"
        )
    return [text.strip() for text in texts.tolist()], vectors


def _compute(teacher: Path, texts: Sequence[str], device: str, notes: list[str]) -> np.ndarray:
    """Return the vectors of the texts by a run's model, which cuts long texts."""
    run = open_run(TrainedSimilar, teacher, device)
    tally = Tally()
    vectors = run.encode(texts, tally)
    notes += sentence_notes(run, "--teacher", tally)
    return vectors


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(length, SHORTEST)
    return unit


def _look_up(
    path: Path, texts: Sequence[str], notes: list[str], tokens: Collection[str]
) -> np.ndarray:
    """Return the vectors of the texts in a table; note which of it are neither they nor tokens."""
    table, vectors = read_table(path)
    row_of = {text: row for row, text in enumerate(table)}
    if len(row_of) < len(table):
        repeated = len(table) - len(row_of)
        rows = f"{repeated} of {len(table)} rows repeat a text"
        notes.append(f"--teacher: {rows}; the last row of a text is used")
    if unused := len(row_of.keys() - {*texts, *tokens}):
        rows = f"{unused} of {len(row_of)} texts of the table"
        notes.append(f"--teacher: {rows} are not in --pairs or --contrasts and were left out")
    missing = [text for text in texts if text not in row_of]
    if missing:
        raise InputError(
            f"teacher: {path} lacks {len(missing)} of {len(texts)} texts, {missing[0][:QUOTED]!r} "
            "first; add their vectors"
        )
    return vectors[[row_of[text] for text in texts]]


def _require_file(path: Path) -> None:
    if not path.is_file():
        state = "is no file" if path.exists() else "does not exist"
        raise InputError(f"teacher: {path} {state}; give {TEACHER}")


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
