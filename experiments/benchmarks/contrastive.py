"""Cost of exact accumulation of a contrastive gradient over the whole batch, compared with a peer.

``fixed``   texts of one length
``mixed``   texts of 4 to 64 tokens, in chunks of as many tokens as 16 texts have on average, the
            default; and in chunks of 16 texts, like the peer's
``tiles``   InfoNCE and its gradient without the B x B matrix, over the dense one; and alone at
            ``--largest`` rows

A batch has 128 texts, that is 64 pairs, in chunks of 16; the encoder has three blocks with dropout
and is shared by both columns. Times are processor time of one thread; contestants alternate within
a round.

``over_direct``      over one pass of the whole batch: bar 1.40 without stored graphs, 1.21 with
                     half of them
``over_arithmetic``  over the time of all chunks in one graph and that of a forward pass of the
                     chunks that are encoded twice: what no implementation can save
``over_peer``        over the CachedMultipleNegativesRankingLoss of the installed
                     sentence-transformers on the same encoder: bar 0.9 in ``mixed``
``distance``         relative distance of the gradient from that of the same chunks in one graph:
                     bar 1e-6

``python -m experiments.benchmarks.contrastive``
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.contrastive_steps import (
    CHUNKS,
    PAIRS,
    Columns,
    Encoder,
    Step,
    by_rows,
    by_tokens,
    cached,
    chunked,
    direct,
    encoded,
    peer,
    texts,
)
from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.checkpoint import JsonObject
from univae.contrastive.losses import info_nce

LENGTH = 32  # tokens of a text of ``fixed``
TILE = 1024
DENSE_ROWS = 4096
PEER = "sentence-transformers"
ONE_GRAPH = "chunks in one graph"
FORWARD = "forward without a graph"
BAR_OVER_PEER = 0.9
BAR_DISTANCE = 1e-6


@dataclass(frozen=True)
class Contestant:
    """A step to time, with its bars and its comparison of gradients."""

    step: Step
    recomputed: float | None = None  # share of the chunks that are encoded twice
    bar_over_direct: float | None = None
    bar_over_peer: float | None = None
    # What has its noise drawn in the same order, so that the gradients must be equal.
    same_chunks: Step | None = None


def contestants_of(model: Encoder, columns: Columns, *, mixed: bool) -> Mapping[str, Contestant]:
    """Return the steps to compare, the peer first."""
    half = CHUNKS // 2
    one_graph = chunked(model, columns, by_tokens)
    one_graph_by_rows = chunked(model, columns, by_rows)
    bar = BAR_OVER_PEER if mixed else None
    contestants = {
        PEER: Contestant(peer(model, columns), same_chunks=one_graph_by_rows),
        "direct": Contestant(direct(model, columns)),
        ONE_GRAPH: Contestant(one_graph),
        FORWARD: Contestant(encoded(model, columns, by_tokens)),
        "no graph kept": Contestant(cached(model, columns, 0), 1.0, 1.40, bar, one_graph),
        "half kept": Contestant(cached(model, columns, half), 0.5, 1.21, bar, one_graph),
    }
    if not mixed:
        last_kept = cached(model, columns, 1)
        contestants["last kept"] = Contestant(last_kept, 1 - 1 / CHUNKS, same_chunks=one_graph)
        return contestants
    for name, keep in (("no graph kept", 0), ("half kept", half)):
        step = cached(model, columns, keep, by_rows)
        contestants[f"{name}, by rows"] = Contestant(step, same_chunks=one_graph_by_rows)
    return contestants


def gradient(model: Encoder, step: Step) -> Tensor:
    """Return the flat gradient of a step, with the noise of seed 1."""
    torch.manual_seed(1)
    step()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def contest(lengths: Tensor, rounds: int) -> JsonObject:
    """Return times over the direct pass and over the peer, and distances between gradients."""
    torch.manual_seed(0)
    model = Encoder()
    columns = (texts(lengths[:PAIRS]), texts(lengths[PAIRS:]))
    mixed = lengths.unique().numel() > 1
    contestants = contestants_of(model, columns, mixed=mixed)
    steps = {name: contestant.step for name, contestant in contestants.items()}
    table = compare(steps, rounds, 1, "cpu")
    milliseconds = {name: row["milliseconds"] for name, row in table.items()}
    for name, row in table.items():
        contestant = contestants[name]
        row["over_direct"] = milliseconds[name] / milliseconds["direct"]
        if contestant.recomputed is not None:
            repeated = contestant.recomputed * milliseconds[FORWARD]
            row["over_arithmetic"] = milliseconds[name] / (milliseconds[ONE_GRAPH] + repeated)
        if name != PEER:
            row["over_peer"] = _inverted(row.pop("ratio"))
        if contestant.same_chunks is not None:
            expected = gradient(model, contestant.same_chunks)
            difference = gradient(model, contestant.step) - expected
            row["distance"] = (difference.norm() / expected.norm()).item()
        bars = {
            "bar_over_direct": contestant.bar_over_direct,
            "bar_over_peer": contestant.bar_over_peer,
        }
        row |= {key: bar for key, bar in bars.items() if bar is not None}
    return table


def _inverted(quartiles: Sequence[float]) -> list[float]:
    return [1 / ratio for ratio in reversed(quartiles)]


def tiles(largest: int, rounds: int) -> JsonObject:
    """Time forward and backward pass of the loss alone, on vectors of 16 features.

    There are 4,096 rows, dense and in tiles of 1,024, and ``largest`` rows in tiles.
    """
    queries = F.normalize(torch.randn(largest, 16), dim=-1).requires_grad_()
    keys = F.normalize(torch.randn(largest, 16), dim=-1).requires_grad_()

    def run(count: int, rows: int | None) -> None:
        queries.grad = None
        keys.grad = None
        info_nce(queries[:count], keys[:count], rows=rows).backward()

    run(min(largest, TILE), TILE)
    bytes_before = peak_bytes()
    start = time.process_time()
    run(largest, TILE)
    many = {
        "rows": largest,
        "seconds": time.process_time() - start,
        "peak_bytes_more": peak_bytes() - bytes_before,
        "matrix_bytes": 4 * largest**2,
    }
    contestants = {"dense": lambda: run(DENSE_ROWS, None), "tiles": lambda: run(DENSE_ROWS, TILE)}
    return {"many": many, str(DENSE_ROWS): compare(contestants, rounds, 1, "cpu")}


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each contestant")
    parser.add_argument(
        "--largest", type=int, default=65536, help="rows of the largest loss in tiles, 4096 or more"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    if importlib.util.find_spec("sentence_transformers") is None:
        print(f"contrastive: the peer is not installed; pip install {PEER}", file=sys.stderr)
        raise SystemExit(2)
    torch.set_num_threads(1)
    # The tiles first, before other computations raise the peak of memory.
    results: JsonObject = {"tiles": tiles(arguments.largest, arguments.rounds)}
    torch.manual_seed(0)
    mixed_lengths = torch.randint(4, 65, (2 * PAIRS,))
    fixed_lengths = torch.full((2 * PAIRS,), LENGTH)
    results |= {
        "fixed": contest(fixed_lengths, arguments.rounds),
        "mixed": contest(mixed_lengths, arguments.rounds),
        "bar_distance": BAR_DISTANCE,
    }
    report("contrastive", results, arguments.out)


if __name__ == "__main__":
    main()
