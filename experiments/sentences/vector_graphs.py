"""Libraries that build graphs of vectors, and the registry of the ways to search.

A graph is built on all vectors in float32, which are in memory then; it holds a copy of them. It
may differ from build to build where several threads insert vectors at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from experiments.sentences.vector_index import MISSING, Graph
from univae.errors import InputError

__all__ = ["INDICES", "GraphLibrary", "IndexKind", "IndexName"]

NEIGHBOURS = 16  # of a vector on a level of the graph
WIDTH_OF_BUILD = 200  # candidates that are kept while a vector is inserted
WIDTH_OF_SEARCH = 128  # candidates that are kept while a query walks, at least
WIDTH_PER_RESULT = 2  # candidates per result
OPTIONS = {"neighbours": NEIGHBOURS, "width_of_build": WIDTH_OF_BUILD}
BLOCK = 2**14  # vectors that are inserted at once


@runtime_checkable
class GraphLibrary(Protocol):
    """A library that builds graphs of vectors."""

    @property
    def suffix(self) -> str:
        """The end of the names of its files."""

    @property
    def version(self) -> str:
        """The version of the library."""

    @property
    def options(self) -> Mapping[str, int]:
        """What a graph depends on beside the vectors."""

    def build(self, matrix: np.ndarray) -> Graph:
        """Return the graph of a matrix (rows, width)."""

    def read(self, path: Path, matrix: np.ndarray) -> Graph | None:
        """Return the graph of a matrix that is stored in a file; None where it is damaged."""


@dataclass(frozen=True)
class Usearch:
    """Graphs of the library usearch."""

    index: Any  # the library's module

    suffix: ClassVar[str] = ".usearch"
    options: ClassVar[Mapping[str, int]] = OPTIONS

    @classmethod
    def load(cls) -> "Usearch":
        """Return the library.

        Raises:
            InputError: it is not installed.
        """
        try:
            import usearch.index
        except ImportError as error:
            raise _not_installed("usearch") from error
        return cls(usearch.index)

    @property
    def version(self) -> str:
        """The version of the library."""
        import usearch

        return str(usearch.__version__)

    def build(self, matrix: np.ndarray) -> "UsearchGraph":
        """Return the graph of a matrix."""
        graph = self._empty(matrix)
        for start in range(0, len(matrix), BLOCK):
            block = np.array(matrix[start : start + BLOCK], dtype=np.float32)
            numbers = np.arange(start, start + len(block))
            graph.add(numbers, block, threads=torch.get_num_threads())
        return UsearchGraph(graph)

    def read(self, path: Path, matrix: np.ndarray) -> "UsearchGraph | None":
        """Return the graph of a matrix that is stored in a file; None where it is damaged."""
        graph = self._empty(matrix)
        try:
            graph.load(str(path))
        except (RuntimeError, OSError, ValueError):
            return None
        is_of_matrix = len(graph) == len(matrix) and graph.ndim == matrix.shape[1]
        return UsearchGraph(graph) if is_of_matrix else None

    def _empty(self, matrix: np.ndarray) -> Any:
        return self.index.Index(
            ndim=matrix.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=NEIGHBOURS,
            expansion_add=WIDTH_OF_BUILD,
            expansion_search=WIDTH_OF_SEARCH,
        )


@dataclass(frozen=True)
class UsearchGraph:
    """A graph of the library usearch."""

    graph: Any

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Return numbers of near vectors (q, count), -1 where fewer were found."""
        self.graph.expansion_search = _search_width(count)
        matches = self.graph.search(queries, count, threads=torch.get_num_threads())
        keys = np.asarray(matches.keys).reshape(len(queries), -1).astype(np.int64)
        counts = np.asarray(getattr(matches, "counts", [keys.shape[1]]))
        found = np.full((len(queries), count), MISSING)
        found[:, : keys.shape[1]] = keys
        found[np.arange(count) >= counts.reshape(-1, 1)] = MISSING
        return found

    def save(self, path: Path) -> None:
        """Write the graph to a file."""
        self.graph.save(str(path))


@dataclass(frozen=True)
class Faiss:
    """Graphs of the library faiss."""

    faiss: Any  # the library's module

    suffix: ClassVar[str] = ".faiss"
    options: ClassVar[Mapping[str, int]] = OPTIONS

    @classmethod
    def load(cls) -> "Faiss":
        """Return the library.

        Raises:
            InputError: it is not installed.
        """
        try:
            import faiss
        except ImportError as error:
            raise _not_installed("faiss") from error
        return cls(faiss)

    @property
    def version(self) -> str:
        """The version of the library."""
        return str(self.faiss.__version__)

    def build(self, matrix: np.ndarray) -> "FaissGraph":
        """Return the graph of a matrix."""
        metric = self.faiss.METRIC_INNER_PRODUCT
        graph = self.faiss.IndexHNSWFlat(matrix.shape[1], NEIGHBOURS, metric)
        graph.hnsw.efConstruction = WIDTH_OF_BUILD
        for start in range(0, len(matrix), BLOCK):
            graph.add(np.array(matrix[start : start + BLOCK], dtype=np.float32))
        return FaissGraph(self.faiss, graph)

    def read(self, path: Path, matrix: np.ndarray) -> "FaissGraph | None":
        """Return the graph of a matrix that is stored in a file; None where it is damaged."""
        try:
            graph = self.faiss.read_index(str(path))
        except (RuntimeError, OSError, ValueError):
            return None
        is_of_matrix = graph.ntotal == len(matrix) and graph.d == matrix.shape[1]
        return FaissGraph(self.faiss, graph) if is_of_matrix else None


@dataclass(frozen=True)
class FaissGraph:
    """A graph of the library faiss."""

    faiss: Any
    graph: Any

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Return numbers of near vectors (q, count), -1 where fewer were found."""
        self.graph.hnsw.efSearch = _search_width(count)
        _, rows = self.graph.search(queries, count)
        return np.asarray(rows)

    def save(self, path: Path) -> None:
        """Write the graph to a file."""
        self.faiss.write_index(self.graph, str(path))


def _search_width(count: int) -> int:
    return max(WIDTH_OF_SEARCH, WIDTH_PER_RESULT * count)


def _not_installed(name: str) -> InputError:
    return InputError(f"--index {name} needs the extra {name}: pip install 'univae[{name}]'")


@runtime_checkable
class Loader(Protocol):
    """A library that is imported where it is used."""

    def load(self) -> GraphLibrary:
        """Return the library, or raise :class:`InputError` where it is not installed."""


@dataclass(frozen=True)
class IndexKind:
    """A choice of ``--index``; without a library every vector is compared."""

    summary: str
    library: Loader | None = None


INDICES: Mapping[str, IndexKind] = {
    "exact": IndexKind("every vector is compared"),
    "usearch": IndexKind("a graph of usearch, the extra usearch", Usearch),
    "faiss": IndexKind("a graph of faiss, the extra faiss", Faiss),
}

if TYPE_CHECKING:
    IndexName: TypeAlias = str
else:
    IndexName = Literal[tuple(INDICES)]
