"""Memory and time of an exact search among many vectors in a file, as their number grows.

For every number, a new process searches a mapped file of random float32 vectors, first with one
query and then with many. ``above_imports`` is the peak of resident memory above that of the
imported libraries; it does not depend on the number of vectors.

``python -m experiments.benchmarks.search_memory --vectors 10000 100000 1000000``
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from experiments.benchmarks.harness import peak_bytes, report
from univae.checkpoint import JsonObject
from univae.sentence.nearest import top_k

WIDTH = 128
BEST = 10
QUERIES = (1, 100)
BLOCK = 2**14  # vectors that are written at once


def write_vectors(path: Path, count: int) -> None:
    """Write ``count`` random vectors of length 1."""
    generator = np.random.default_rng(0)
    matrix = np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDTH))
    for start in range(0, count, BLOCK):
        block = matrix[start : start + BLOCK]
        block[:] = generator.standard_normal(block.shape, np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    matrix.flush()


def search(path: Path) -> JsonObject:
    """Search in this process; return seconds and peaks of memory by the number of queries."""
    top_k(torch.zeros(1, WIDTH), np.zeros((BEST, WIDTH), np.float32), BEST)
    imported = peak_bytes()
    matrix = np.load(path, mmap_mode="r")
    results: JsonObject = {}
    for count in QUERIES:
        queries = torch.from_numpy(matrix[:count].copy())
        start = time.perf_counter()
        _, rows = top_k(queries, matrix, BEST)
        seconds = time.perf_counter() - start
        results[f"{count} queries"] = {
            "seconds": seconds,
            "seconds_per_query": seconds / count,
            "own_vector_first": bool((rows[:, 0] == torch.arange(count)).all()),
            "above_imports": peak_bytes() - imported,
        }
    return results


def measure(count: int, folder: Path) -> JsonObject:
    """Return what :func:`search` measures in a new process, for a number of vectors."""
    path = folder / f"{count}.npy"
    write_vectors(path, count)
    command = [sys.executable, "-m", "experiments.benchmarks.search_memory", "--search", str(path)]
    results = json.loads(subprocess.check_output(command))
    size = path.stat().st_size
    path.unlink()
    return {"vectors": count, "file_bytes": size, **results}


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [10_000, 100_000]
    parser.add_argument("--vectors", type=int, nargs="+", default=default, help="sizes of the file")
    parser.add_argument("--folder", type=Path, help="where the vectors are written")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search is not None:
        print(json.dumps(search(arguments.search)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = [measure(count, Path(folder)) for count in arguments.vectors]
    report("search_memory", results, arguments.out)


if __name__ == "__main__":
    main()
