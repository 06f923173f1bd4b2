r"""Time and memory of InfoNCE and its gradient as the number of rows grows, to a million.

For every number of rows N, a new process computes the loss of random unit vectors with scale 20,
and its gradient, in tiles: N^2 scores are computed, twice, and none is stored. ``peak_bytes_more``
is the peak of resident memory above that before, with the vectors, and ``matrix_bytes`` what the
scores alone would take. ``seconds`` are processor time, summed over ``--threads``.

Two numbers check each result in float32. ``query_distance`` is the relative distance of the
gradients of 8 queries from those of the formula in float64. The gradients of the keys sum to zero,
:math:`\sum_j \partial L / \partial k_j = \beta/N \sum_i q_i (\sum_j p_{ij} - 1)`; ``key_sum`` is
the norm of that sum over the sum of the gradients' norms.

The results are written after every number of rows, and a number that ``--out`` already holds with
the same tile and threads is not measured again: a million takes most of an hour.

``python -m experiments.benchmarks.contrastive_rows --figure docs/figures/contrastive_rows.png``
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.figures import BLUE, GREY, ORANGE, png, stacked_axes
from experiments.benchmarks.harness import peak_bytes, report
from univae.checkpoint import JsonObject, read_json
from univae.contrastive.losses import info_nce

ROWS = [2**exponent for exponent in range(14, 21)]
FEATURES = 16
TILE = 1024
SCALE = 20.0
CHECKED = 8  # queries whose gradient is compared with the formula
MIB = 2**20


def unit_vectors(rows: int) -> Tensor:
    """Return random vectors of length 1."""
    return F.normalize(torch.randn(rows, FEATURES), dim=-1).requires_grad_()


def query_gradients(queries: Tensor, keys: Tensor) -> Tensor:
    """Return the gradient of the loss at the first queries, in float64, without tiles."""
    q = queries[:CHECKED].detach().double()
    k = keys.detach().double()
    probabilities = (SCALE * q @ k.mT).softmax(-1)
    return SCALE / len(queries) * (probabilities @ k - k[:CHECKED])


def measure_here(rows: int, tile: int) -> JsonObject:
    """Measure one loss and its gradient in this process."""
    torch.manual_seed(0)
    queries = unit_vectors(rows)
    keys = unit_vectors(rows)
    small = slice(0, 2 * tile)
    info_nce(queries[small], keys[small], SCALE, rows=tile).backward()
    queries.grad = None
    keys.grad = None

    bytes_before = peak_bytes()
    wall_start = time.perf_counter()
    start = time.process_time()
    loss = info_nce(queries, keys, SCALE, rows=tile)
    forward_seconds = time.process_time() - start
    loss.backward()
    seconds = time.process_time() - start
    wall_seconds = time.perf_counter() - wall_start
    peak = peak_bytes() - bytes_before

    assert queries.grad is not None
    assert keys.grad is not None
    expected = query_gradients(queries, keys)
    difference = queries.grad[:CHECKED] - expected
    key_gradients = keys.grad.double()
    return {
        "rows": rows,
        "seconds": seconds,
        "forward_seconds": forward_seconds,
        "wall_seconds": wall_seconds,
        "nanoseconds_per_score": 1e9 * seconds / rows**2,
        "peak_bytes_more": peak,
        "vector_bytes": 2 * 4 * rows * FEATURES,
        "matrix_bytes": 4 * rows**2,
        "loss": loss.item(),
        "query_distance": (difference.norm() / expected.norm()).item(),
        "key_sum": (key_gradients.sum(0).norm() / key_gradients.norm(dim=-1).sum()).item(),
    }


def measure(rows: int, tile: int, threads: int) -> JsonObject:
    """Return what :func:`measure_here` measures in a new process."""
    module = "experiments.benchmarks.contrastive_rows"
    options = {"--rows": rows, "--tile": tile, "--threads": threads}
    command = [sys.executable, "-m", module, "--measure"]
    for name, value in options.items():
        command += [name, str(value)]
    result: JsonObject = json.loads(subprocess.check_output(command))
    return result


def stored(out: Path | None, setting: JsonObject) -> list[JsonObject]:
    """Return the points of an earlier run with the same setting in the file ``out``."""
    if out is None or not out.exists():
        return []
    results = read_json(out)["results"]
    if any(results[name] != value for name, value in setting.items()):
        return []
    points: list[JsonObject] = results["points"]
    return points


def draw(points: Sequence[JsonObject], path: Path) -> None:
    """Draw time and memory against rows, on logarithmic axes."""
    figure, (above, below) = stacked_axes(2, heights=(1, 1), height=6.0)
    rows = [point["rows"] for point in points]
    above.plot(rows, [point["seconds"] for point in points], color=BLUE, marker="o")
    above.set_ylabel("processor seconds")
    more = [point["peak_bytes_more"] / MIB for point in points]
    vectors = [point["vector_bytes"] / MIB for point in points]
    matrix = [point["matrix_bytes"] / MIB for point in points]
    below.plot(rows, matrix, color=GREY, linestyle="--", label="the matrix of scores would take")
    below.plot(rows, more, color=BLUE, marker="o", label="loss and gradient take")
    below.plot(rows, vectors, color=ORANGE, linestyle=":", label="queries and keys")
    below.set_ylabel("MiB")
    below.set_xlabel("rows")
    below.legend(frameon=False)
    for axes in (above, below):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="numbers of rows")
    parser.add_argument("--tile", type=int, default=TILE, help="rows and columns of a tile")
    parser.add_argument("--threads", type=int, default=1, help="threads of a process")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--figure", type=Path, help="a PNG file of time and memory against rows")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark with the options of the command line."""
    options = parse()
    torch.set_num_threads(options.threads)
    if options.measure:
        print(json.dumps(measure_here(options.rows[0], options.tile)))
        return
    setting = {
        "features": FEATURES,
        "scale": SCALE,
        "tile": options.tile,
        "threads": options.threads,
    }
    points = {point["rows"]: point for point in stored(options.out, setting)}
    for rows in sorted(options.rows):
        if rows not in points:
            points[rows] = measure(rows, options.tile, options.threads)
        by_rows = [points[number] for number in sorted(points)]
        report("contrastive_rows", {**setting, "points": by_rows}, options.out)
        if options.figure is not None:
            draw(by_rows, options.figure)


if __name__ == "__main__":
    main()
