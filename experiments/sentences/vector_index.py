"""Ways to find the vectors nearest to a query: every vector is compared, or a graph is walked.

A graph, Hierarchical Navigable Small Worlds, joins every vector with some near ones on several
levels. A search walks from vector to vector toward the query and compares few of them, so it may
miss some of the nearest: :func:`recall` measures how many it finds. The rows that it finds are
compared again in float32, so scores are those of the exact search.

References:
    Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
    World graphs (Malkov & Yashunin, 2016), https://arxiv.org/abs/1603.09320
"""

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from univae.sentence.nearest import top_k

__all__ = ["MISSING", "ExactSearch", "Graph", "GraphSearch", "Nearest", "Search", "recall"]

MISSING = -1  # in place of a row that was not found
ROUNDING = 1e-6  # difference of equal cosines, computed in different order


class Nearest(NamedTuple):
    """The texts of a corpus nearest to each query, the best first."""

    scores: Tensor  # (queries, count), cosines
    rows: Tensor  # (queries, count), numbers of the texts


@runtime_checkable
class Search(Protocol):
    """A way to find the nearest vectors."""

    def nearest(self, queries: np.ndarray, count: int) -> Nearest:
        """Return the ``count`` vectors nearest to each query (q, width), all if there are fewer."""


class ExactSearch:
    """Compares a query with every row of a matrix (rows, width), in memory or mapped."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix

    def nearest(self, queries: np.ndarray, count: int) -> Nearest:
        """Return the vectors of the largest inner products: :func:`univae.sentence.nearest.top_k`.

        Raises:
            InputError: ``count`` is below 1, or the widths differ.
        """
        return Nearest(*top_k(torch.from_numpy(queries), self.matrix, count))


@runtime_checkable
class Graph(Protocol):
    """A graph of vectors, of one of the libraries."""

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Return numbers of near vectors (q, count), -1 where fewer were found."""

    def save(self, path: Path) -> None:
        """Write the graph to a file."""


class GraphSearch:
    """Walks a graph of the rows of a matrix (rows, width), and compares the rows that it meets."""

    def __init__(self, matrix: np.ndarray, graph: Graph) -> None:
        self.matrix = matrix
        self.graph = graph

    def nearest(self, queries: np.ndarray, count: int) -> Nearest:
        """Return near vectors by their inner products, the largest first.

        Queries for which the graph gives fewer than there are get an exact search.

        Raises:
            InputError: ``count`` is below 1, or the widths differ.
        """
        exact = ExactSearch(self.matrix)
        most = min(count, len(self.matrix))
        if most < 1 or queries.shape[1] != self.matrix.shape[1]:
            return exact.nearest(queries, count)  # which raises, or returns nothing
        queries = np.asarray(queries, dtype=np.float32)
        found = np.sort(self.graph.candidates(queries, most), axis=1)
        scores = np.empty(found.shape, dtype=np.float32)
        rows = np.empty(found.shape, dtype=np.int64)
        for number, (query, candidates) in enumerate(zip(queries, found, strict=True)):
            if candidates[0] == MISSING:
                best = exact.nearest(query[None], most)
                scores[number] = best.scores[0].numpy()
                rows[number] = best.rows[0].numpy()
                continue
            products = np.asarray(self.matrix[candidates], dtype=np.float32) @ query
            order = np.argsort(-products, kind="stable")
            scores[number] = products[order]
            rows[number] = candidates[order]
        return Nearest(torch.from_numpy(scores), torch.from_numpy(rows))


def recall(search: Search, exact: ExactSearch, count: int, rows: np.ndarray) -> float:
    r"""Return the mean share of the ``count`` vectors nearest to a row that a search finds.

    .. math:: \frac{|\{\text{found}: s \ge s_{k}\}|}{k}

    where :math:`s_k` is the cosine of the :math:`k`-th nearest vector in the exact search, so that
    equal vectors count as each other. The row itself, which is nearest to itself, is not counted.

    Args:
        search: the search to measure.
        exact: the exact search in the same matrix.
        count: :math:`k`; the number of all other vectors where there are fewer.
        rows: numbers of the rows (n,) that are the queries.
    """
    queries = np.asarray(exact.matrix[rows], dtype=np.float32)
    expected = exact.nearest(queries, count + 1)
    others = expected.scores.shape[1] - 1
    if others < 1:
        return 1.0
    found = search.nearest(queries, count + 1)
    hits = (found.scores >= expected.scores[:, -1:] - ROUNDING).sum(1)
    return ((hits - 1).clamp(min=0) / others).mean().item()
