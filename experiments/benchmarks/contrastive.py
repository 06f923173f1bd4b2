"""What exact accumulation of a contrastive gradient costs over the whole batch at once, and beside a peer's.

``fixed``   texts of one length; time over the direct pass: bar 1.40 with no graph kept, 1.15 with half of them
``mixed``   texts of 4 to 64 tokens: chunks of 16 texts as they come, and of as many tokens as that on average
``tiles``   InfoNCE and its gradient without the B x B matrix, over the dense one; and alone at ``--largest`` rows

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.attention.rotary import phases
from univae.attention.transformer import Block, Embedding, initialise
from univae.contrastive.chunking import by_tokens
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
BARS = {"no graph kept": 1.40, "half kept": 1.15}
PEER = "sentence-transformers"
Texts = list[Tensor]


class Encoder(nn.Module):
    """Padded ids (B, T), 0 for padding, to unit vectors: the mean of the last rows of the real tokens."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = Embedding(VOCABULARY, WIDTH, dropout)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS, dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = dropout
        initialise(self)

    def forward(self, ids: Tensor) -> Tensor:
        real = ids != 0
        mix = Streams(
            mask=real[:, None, None], dropout=self.dropout if self.training else 0.0
        ).encoder
        phase = phases(torch.arange(ids.shape[1]), WIDTH // HEADS)
        x = self.embedding(ids, 0)
        for block in self.blocks:
            x = block(x, phase, mix)
        return F.normalize((self.norm(x) * real[..., None]).sum(1), dim=-1)


def texts(lengths: Tensor) -> Texts:
    return [torch.randint(1, VOCABULARY, (int(n),)) for n in lengths]


def pad(parts: Texts) -> Tensor:
    return nn.utils.rnn.pad_sequence(parts, batch_first=True)


def direct(model: Encoder, columns: tuple[Texts, Texts]) -> Callable[[], None]:
    """The whole batch in one pass, both columns together."""

    def step() -> None:
        model.zero_grad()
        vectors = model(pad(columns[0] + columns[1]))
        info_nce(*vectors.chunk(2)).backward()

    return step


def chunked(model: Encoder, columns: tuple[Texts, Texts]) -> Callable[[], None]:
    """One graph of all chunks: what the others must equal."""

    def step() -> None:
        model.zero_grad()
        queries, keys = (
            torch.cat([model(pad(column[i : i + CHUNK])) for i in range(0, PAIRS, CHUNK)])
            for column in columns
        )
        info_nce(queries, keys).backward()

    return step


def encoded(model: Encoder, columns: tuple[Texts, Texts]) -> Callable[[], None]:
    """What a second forward pass costs: with one graph of all chunks, the least that two passes can take."""

    @torch.no_grad()
    def step() -> None:
        for column in columns:
            for i in range(0, PAIRS, CHUNK):
                model(pad(column[i : i + CHUNK]))

    return step


def ours(
    model: Encoder, columns: tuple[Texts, Texts], chunk: Any = CHUNK, **options: Any
) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        cached_backward([model, model], columns, info_nce, chunk, collate=pad, **options)

    return step


def peer(model: Encoder, columns: tuple[Texts, Texts]) -> Callable[[], None]:
    """Its loss over the same module, which cuts padded ids into chunks and trims each by its mask."""
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

    loss = CachedMultipleNegativesRankingLoss(
        SentenceTransformer(modules=[Features()]), mini_batch_size=CHUNK
    )
    model.train()

    def step() -> None:
        model.zero_grad()
        padded = [pad(column) for column in columns]
        loss(
            [{"input_ids": ids, "attention_mask": (ids != 0).long()} for ids in padded], None
        ).backward()

    return step


def gradient(model: Encoder, step: Callable[[], None]) -> Tensor:
    torch.manual_seed(1)
    step()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def contest(lengths: Tensor, rounds: int) -> dict[str, Any]:
    """Time over the direct pass and over the peer, and how far the gradients lie apart."""
    torch.manual_seed(0)
    model = Encoder()
    columns = (texts(lengths[:PAIRS]), texts(lengths[PAIRS:]))
    contestants = {
        PEER: peer(model, columns),
        "direct": direct(model, columns),
        "no graph kept": ours(model, columns, keep=0),
        "half kept": ours(model, columns, keep=CHUNKS // 2),
    }
    if lengths.unique().numel() == 1:
        contestants["last kept"] = ours(model, columns)
        contestants["chunks in one graph"] = chunked(model, columns)
        contestants["forward without a graph"] = encoded(model, columns)
    else:
        by = by_tokens(CHUNK * int(lengths.sum()) // len(lengths))
        contestants["no graph kept, by tokens"] = ours(model, columns, by, keep=0)
        contestants["half kept, by tokens"] = ours(model, columns, by, keep=CHUNKS // 2)
    expected = gradient(model, chunked(model, columns))
    distances = {
        name: ((gradient(model, step) - expected).norm() / expected.norm()).item()
        for name, step in contestants.items()
        if name == PEER or name.endswith("kept")  # the others draw their noise in another order
    }
    table = compare(contestants, rounds, 1, "cpu")
    over_direct = table["direct"]["milliseconds"]
    for name, row in table.items():
        row["over_direct"] = row["milliseconds"] / over_direct
        if "ratio" in row:
            row["over_peer"] = [1 / ratio for ratio in reversed(row.pop("ratio"))]
        row |= {"distance": distances[name]} if name in distances else {}
        row |= {"bar_over_direct": BARS[name]} if name in BARS else {}
    return table


def tiles(largest: int, rounds: int) -> dict[str, Any]:
    """The loss alone, forward and backward, 16 features: 4,096 rows dense and in tiles of 1,024.

    Then many.
    """
    queries, keys = (
        F.normalize(torch.randn(largest, 16), dim=-1).requires_grad_() for _ in range(2)
    )

    def run(count: int, rows: int | None) -> None:
        queries.grad = keys.grad = None
        info_nce(queries[:count], keys[:count], rows=rows).backward()

    run(min(largest, 1024), 1024)
    before = peak_bytes()
    start = time.process_time()
    run(largest, 1024)
    seconds = time.process_time() - start
    bytes_more = peak_bytes() - before
    many = {
        "rows": largest,
        "seconds": seconds,
        "peak_bytes_more": bytes_more,
        "matrix_bytes": 4 * largest**2,
    }
    dense = {"dense": lambda: run(4096, None), "tiles": lambda: run(4096, 1024)}
    return {"many": many, "4096": compare(dense, rounds, 1, "cpu")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--largest", type=int, default=65536, help="rows of the largest loss in tiles, 4096 or more"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if importlib.util.find_spec("sentence_transformers") is None:
        print(f"contrastive: the peer is not installed; pip install {PEER}", file=sys.stderr)
        raise SystemExit(2)
    torch.set_num_threads(1)
    # first, while the peak of memory is its own
    found = {"tiles": tiles(given.largest, given.rounds)}
    torch.manual_seed(0)
    lengths = torch.randint(4, 65, (2 * PAIRS,))
    found |= {
        "fixed": contest(torch.full((2 * PAIRS,), LENGTH), given.rounds),
        "mixed": contest(lengths, given.rounds),
    }
    report("contrastive", found | {"bar_over_peer": 0.9, "bar_distance": 1e-6}, given.out)


if __name__ == "__main__":
    main()
