"""Cost of exact accumulation of a contrastive gradient over the whole batch, and beside a peer.

``fixed``   texts of one length; time over the direct pass: bar 1.40 with no graph kept, 1.15 with
            half of them
``mixed``   texts of 4 to 64 tokens: chunks of 16 texts as they come, and of as many tokens as that
            on average
``tiles``   InfoNCE and its gradient without the B x B matrix, over the dense one; and alone at
            ``--largest`` rows

128 texts, that is 64 pairs, in chunks of 16; one tied encoder of three blocks, dropout on. The peer
is the CachedMultipleNegativesRankingLoss of sentence-transformers, as installed, on the same
encoder; bar for our time over its: 0.9. ``distance`` is that of a gradient to the one of all chunks
in one graph, relative; bar 1e-6. Times are CPU time of one thread, contestants in turn. ``python -m
experiments.benchmarks.contrastive``
"""

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.attention.rotary import phases
from univae.attention.transformer import Block, Embedding, initialise
from univae.checkpoint import JsonObject
from univae.contrastive.chunking import Chunker, by_tokens
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import info_nce
from univae.vae.streams import Streams

PAIRS = 64
CHUNK = 16
LENGTH = 32
WIDTH = 256
HEADS = 4
LAYERS = 3
VOCABULARY = 2000
CHUNKS = 2 * PAIRS // CHUNK  # of both columns
TILE = 1024
DENSE_ROWS = 4096
PEER = "sentence-transformers"
BAR_OVER_PEER = 0.9
BAR_DISTANCE = 1e-6

Texts: TypeAlias = list[Tensor]
Columns: TypeAlias = tuple[Texts, Texts]
Step: TypeAlias = Callable[[], None]  # one forward and backward pass


class Encoder(nn.Module):
    """Maps padded ids (B, T), 0 for padding, to unit vectors: means over the real tokens."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = Embedding(VOCABULARY, WIDTH, dropout)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS, dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = dropout
        initialise(self)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors, (B, 256)."""
        is_real = ids != 0
        dropout = self.dropout if self.training else 0.0
        mix = Streams(mask=is_real[:, None, None], dropout=dropout).encoder
        phase = phases(torch.arange(ids.shape[1]), WIDTH // HEADS)
        x = self.embedding(ids, 0)
        for block in self.blocks:
            x = block(x, phase, mix)
        return F.normalize((self.norm(x) * is_real[..., None]).sum(1), dim=-1)


def texts(lengths: Tensor) -> Texts:
    """Return random texts of these lengths."""
    return [torch.randint(1, VOCABULARY, (int(n),)) for n in lengths]


def pad(sequences: Texts) -> Tensor:
    """Return texts as one padded tensor."""
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True)


def chunks_of(column: Texts) -> list[Tensor]:
    """Return the padded chunks of a column."""
    return [pad(column[start : start + CHUNK]) for start in range(0, PAIRS, CHUNK)]


def direct(model: Encoder, columns: Columns) -> Step:
    """Return the step of the whole batch in one pass, both columns together."""

    def step() -> None:
        model.zero_grad()
        vectors = model(pad(columns[0] + columns[1]))
        info_nce(*vectors.chunk(2)).backward()

    return step


def chunked(model: Encoder, columns: Columns) -> Step:
    """Return the step with one graph of all chunks, whose gradient the cached ones must equal."""

    def step() -> None:
        model.zero_grad()
        queries = torch.cat([model(chunk) for chunk in chunks_of(columns[0])])
        keys = torch.cat([model(chunk) for chunk in chunks_of(columns[1])])
        info_nce(queries, keys).backward()

    return step


def encoded(model: Encoder, columns: Columns) -> Step:
    """Return the second forward pass alone: with ``chunked``, the least that two passes take."""

    @torch.no_grad()
    def step() -> None:
        for column in columns:
            for chunk in chunks_of(column):
                model(chunk)

    return step


def cached(model: Encoder, columns: Columns, keep: int = 1, chunk: int | Chunker = CHUNK) -> Step:
    """Return the step of this library, with the graphs of ``keep`` chunks kept."""

    def step() -> None:
        model.zero_grad()
        cached_backward([model, model], columns, info_nce, chunk, collate=pad, keep=keep)

    return step


def peer(model: Encoder, columns: Columns) -> Step:
    """Return the step of the peer, which cuts padded ids into chunks and trims each by its mask."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its modules move between versions
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return features | {"sentence_embedding": self.encoder(features["input_ids"])}

    transformer = SentenceTransformer(modules=[Features()])
    loss = CachedMultipleNegativesRankingLoss(transformer, mini_batch_size=CHUNK)
    model.train()

    def step() -> None:
        model.zero_grad()
        features = []
        for column in columns:
            ids = pad(column)
            features.append({"input_ids": ids, "attention_mask": (ids != 0).long()})
        loss(features, None).backward()

    return step


@dataclass(frozen=True)
class Contestant:
    """A step to time, with what else is known of it."""

    step: Step
    bar_over_direct: float | None = None
    # comparable noise: its gradient must equal that of ``chunked``; others draw in another order
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
        if "ratio" in row:
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
    """Time the loss alone, forward and backward, of 16 features.

    4,096 rows dense and in tiles of 1,024, and ``largest`` rows in tiles.
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
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--largest", type=int, default=65536, help="rows of the largest loss in tiles, 4096 or more"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if importlib.util.find_spec("sentence_transformers") is None:
        print(f"contrastive: the peer is not installed; pip install {PEER}", file=sys.stderr)
        raise SystemExit(2)
    torch.set_num_threads(1)
    # first, before anything else raises the peak of memory
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
