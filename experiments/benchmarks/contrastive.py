"""Cost of exact accumulation of a contrastive gradient over the whole batch, compared with a peer.

``fixed``   texts of one length; time over the direct pass: bar 1.40 without stored graphs, 1.15
            with half of them
``mixed``   texts of 4 to 64 tokens: chunks of 16 texts, and of as many tokens as 16 texts have on
            average
``tiles``   InfoNCE and its gradient without the B x B matrix, over the dense one; and alone at
            ``--largest`` rows

A batch has 128 texts, that is 64 pairs, in chunks of 16; the encoder has three blocks with dropout
and is shared by both columns. The peer is the CachedMultipleNegativesRankingLoss of the installed
sentence-transformers on the same encoder; bar for the time over that of the peer: 0.9. ``distance``
is the relative distance of a gradient from that of all chunks in one graph; bar 1e-6. Times are
processor time of one thread; contestants alternate within a round.

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
    CHUNK,
    CHUNKS,
    PAIRS,
    Columns,
    Encoder,
    Step,
    cached,
    chunked,
    direct,
    encoded,
    peer,
    texts,
)
from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.checkpoint import JsonObject
from univae.contrastive.chunking import by_tokens
from univae.contrastive.losses import info_nce

LENGTH = 32  # tokens of a text of ``fixed``
TILE = 1024
DENSE_ROWS = 4096
PEER = "sentence-transformers"
BAR_OVER_PEER = 0.9
BAR_DISTANCE = 1e-6


@dataclass(frozen=True)
class Contestant:
    """A step to time, with its bar and its comparison of gradients."""

    step: Step
    bar_over_direct: float | None = None
    # Whether the noise is drawn in the order of ``chunked``, so that the gradients must be equal.
    has_distance: bool = False


def contestants_of(model: Encoder, columns: Columns, lengths: Tensor) -> Mapping[str, Contestant]:
    """Return the steps to compare, the peer first."""
    half = CHUNKS // 2
    contestants = {
        PEER: Contestant(peer(model, columns), has_distance=True),
        "direct": Contestant(direct(model, columns)),
        "no graph kept": Contestant(cached(model, columns, keep=0), 1.40, has_distance=True),
        "half kept": Contestant(cached(model, columns, keep=half), 1.15, has_distance=True),
    }
    if lengths.unique().numel() == 1:
        contestants |= {
            "last kept": Contestant(cached(model, columns), has_distance=True),
            "chunks in one graph": Contestant(chunked(model, columns)),
            "forward without a graph": Contestant(encoded(model, columns)),
        }
    else:
        chunk = by_tokens(CHUNK * int(lengths.sum()) // len(lengths))
        contestants |= {
            "no graph kept, by tokens": Contestant(cached(model, columns, 0, chunk)),
            "half kept, by tokens": Contestant(cached(model, columns, half, chunk)),
        }
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
    contestants = contestants_of(model, columns, lengths)
    expected = gradient(model, chunked(model, columns))
    distances = {}
    for name, contestant in contestants.items():
        if contestant.has_distance:
            difference = gradient(model, contestant.step) - expected
            distances[name] = (difference.norm() / expected.norm()).item()

    steps = {name: contestant.step for name, contestant in contestants.items()}
    table = compare(steps, rounds, 1, "cpu")
    direct_milliseconds = table["direct"]["milliseconds"]
    for name, row in table.items():
        row["over_direct"] = row["milliseconds"] / direct_milliseconds
        if name != PEER:
            row["over_peer"] = _inverted(row.pop("ratio"))
        if name in distances:
            row["distance"] = distances[name]
        bar = contestants[name].bar_over_direct
        if bar is not None:
            row["bar_over_direct"] = bar
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
        "bar_over_peer": BAR_OVER_PEER,
        "bar_distance": BAR_DISTANCE,
    }
    report("contrastive", results, arguments.out)


if __name__ == "__main__":
    main()
