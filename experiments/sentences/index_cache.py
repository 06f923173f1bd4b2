"""The graph of a corpus' vectors, built once and kept in the user's cache with its recall.

A file is named by the checksum of the vectors, the library, its version and options; beside it a
.json file holds the recall that was measured, by the number of results. A run folder may come from
elsewhere, and the libraries read their files without checking them, so no graph is read from it.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.sentences.vector_cache import index_file
from experiments.sentences.vector_file import stored_checksum
from experiments.sentences.vector_graphs import INDICES, GraphLibrary, IndexName
from experiments.sentences.vector_index import ExactSearch, Graph, GraphSearch, Search, recall
from experiments.sentences.vectors import Vectors
from univae.checkpoint import JsonObject, read_json, replacing_file, write_json
from univae.errors import InputError

__all__ = ["OpenIndex", "open_index", "require_library"]

SAMPLE = 200  # rows of the corpus, the queries that recall is measured with
SEED = 0
DIGITS = 3  # of recall in a note
TOO_LOW = 0.95  # recall below which the note advises the exact search


class OpenIndex(NamedTuple):
    """A way to search, and how far to trust it."""

    search: Search
    facts: JsonObject  # for the result: the index and its recall; nothing of the exact search
    notes: list[str]


def require_library(name: IndexName) -> None:
    """Raise :class:`InputError` where the library of a kind of index is not installed."""
    loader = INDICES[name].library
    if loader is not None:
        loader.load()


def open_index(name: IndexName, vectors: Vectors, count: int) -> OpenIndex:
    """Return the search of one kind among the vectors of a corpus.

    Args:
        name: of the kind, a row of ``INDICES``.
        vectors: those of the corpus.
        count: the number of results, of which recall is measured.

    Raises:
        InputError: the library of the kind is not installed; or the user's cache cannot be written.
    """
    exact = ExactSearch(vectors.matrix)
    loader = INDICES[name].library
    if loader is None:
        return OpenIndex(exact, {}, [])
    library = loader.load()
    path = index_file(_recipe(name, library, vectors.path), library.suffix)
    graph = library.read(path, vectors.matrix) if path.is_file() else None
    is_stored = graph is not None
    if graph is None:
        graph = _built(library, vectors.matrix, path)
    search = GraphSearch(vectors.matrix, graph)
    share = _recall(search, exact, count, path.with_suffix(".json"), is_stored=is_stored)
    facts = {"index": name, "index_recall": share, "index_cached": is_stored}
    return OpenIndex(search, facts, [_note(name, share, count, len(vectors.matrix))])


def _recipe(name: str, library: GraphLibrary, vectors: Path) -> JsonObject:
    """Return all that a graph depends on."""
    return {
        "vectors": stored_checksum(vectors),
        "index": name,
        "version": library.version,
        **library.options,
    }


def _built(library: GraphLibrary, matrix: np.ndarray, path: Path) -> Graph:
    """Return the graph of a matrix, written to a file."""
    graph = library.build(matrix)
    path.with_suffix(".json").unlink(missing_ok=True)  # the recall of another graph
    with replacing_file(path) as temporary:
        graph.save(temporary)
    return graph


def _recall(
    search: Search, exact: ExactSearch, count: int, path: Path, *, is_stored: bool
) -> float:
    """Return the recall on a sample of the corpus, from a file where it was measured before."""
    stored: JsonObject = {}
    if is_stored and path.is_file():
        try:
            stored = dict(read_json(path))
        except (InputError, TypeError, ValueError):  # damaged: measured again
            stored = {}
    share = stored.get(str(count))
    if not isinstance(share, float):
        size = len(exact.matrix)
        generator = np.random.default_rng(SEED)
        rows = np.sort(generator.choice(size, min(SAMPLE, size), replace=False))
        share = recall(search, exact, count, rows)
        write_json(path, {**stored, str(count): share})
    return share


def _note(name: str, share: float, count: int, size: int) -> str:
    sample = min(SAMPLE, size)
    nearest = min(count, size - 1)
    note = (
        f"--index {name}: finds {share:.{DIGITS}f} of the {nearest} nearest texts that "
        f"--index exact finds, measured around {sample} texts of the corpus"
    )
    return note if share >= TOO_LOW else f"{note}; --index exact finds all"
