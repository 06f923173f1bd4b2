"""Time and recall of indices among clustered vectors of length 1, against the exact search.

Vectors are a cluster's centre plus noise, of length 1; queries are further vectors of the same
clusters. For every index: seconds to build it, milliseconds a query alone and among many at once,
and its recall, on the queries and, as ``univae search`` measures it, on rows of the corpus.

``python -m experiments.benchmarks.vector_index --vectors 100000``
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from experiments.benchmarks.harness import report
from experiments.sentences.vector_graphs import INDICES
from experiments.sentences.vector_index import ExactSearch, GraphSearch, Search, recall
from univae.checkpoint import JsonObject

WIDTH = 128
CLUSTERS = 1000
NOISE = 0.7  # of a vector, whose centre has length 1
QUERIES = 500
ALONE = 100  # queries that are timed one by one
SAMPLE = 200  # rows of the corpus that recall is measured with
COUNTS = (1, 10, 100)  # results of a query


def clustered(count: int, generator: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    """Return vectors of length 1 around random centres."""
    chosen = centres[generator.integers(len(centres), size=count)]
    noise = generator.standard_normal(chosen.shape) / WIDTH**0.5
    vectors = chosen + NOISE * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def seconds(action: Callable[[], object]) -> float:
    """Return the time of a call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measured(search: Search, exact: ExactSearch, queries: np.ndarray) -> JsonObject:
    """Return times and recalls of a search."""
    rows = np.random.default_rng(1).choice(len(exact.matrix), SAMPLE, replace=False)
    alone = [seconds(partial(search.nearest, query[None], COUNTS[1])) for query in queries[:ALONE]]
    together = seconds(lambda: search.nearest(queries, COUNTS[1]))
    both = ExactSearch(exact.matrix)
    result: JsonObject = {
        "milliseconds_per_query_alone": 1e3 * float(np.median(alone)),
        "milliseconds_per_query_together": 1e3 * together / len(queries),
    }
    for count in COUNTS:
        expected = both.nearest(queries, count)
        found = search.nearest(queries, count)
        hits = found.scores >= expected.scores[:, -1:] - 1e-6
        result[f"recall_at_{count}_of_queries"] = hits.double().mean().item()
        result[f"recall_at_{count}_of_rows"] = recall(search, exact, count, rows)
    return result


def measure(count: int) -> JsonObject:
    """Return the measurements of every index on a number of vectors."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((CLUSTERS, WIDTH))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    matrix = clustered(count, generator, centres)
    queries = clustered(QUERIES, generator, centres)
    exact = ExactSearch(matrix)
    results: JsonObject = {"vectors": count, "width": WIDTH, "threads": torch.get_num_threads()}
    for name, kind in INDICES.items():
        if kind.library is None:
            results[name] = measured(exact, exact, queries)
            continue
        library = kind.library.load()
        start = time.perf_counter()
        graph = library.build(matrix)
        built = time.perf_counter() - start
        search = GraphSearch(matrix, graph)
        results[name] = {
            "version": library.version,
            "seconds_to_build": built,
            **measured(search, exact, queries),
        }
    return results


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=int, nargs="+", default=[100_000], help="sizes")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    report("vector_index", [measure(count) for count in arguments.vectors], arguments.out)


if __name__ == "__main__":
    main()
