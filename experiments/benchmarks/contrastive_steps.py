"""The steps of the contrastive benchmark: an encoder, and ways to compute a batch's gradient."""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univae.attention.rotary import phases
from univae.attention.transformer import Block, Embedding, initialise
from univae.contrastive.chunking import Chunker, by_mean_tokens
from univae.contrastive.gradient_cache import cached_backward
from univae.contrastive.losses import info_nce
from univae.vae.streams import Streams

__all__ = [
    "CHUNK",
    "CHUNKS",
    "PAIRS",
    "Columns",
    "Encoder",
    "Step",
    "by_rows",
    "by_tokens",
    "cached",
    "chunked",
    "direct",
    "encoded",
    "peer",
    "texts",
]

PAIRS = 64
CHUNK = 16
WIDTH = 256
HEADS = 4
LAYERS = 3
VOCABULARY = 2000
CHUNKS = 2 * PAIRS // CHUNK  # of both columns

Texts: TypeAlias = list[Tensor]
Columns: TypeAlias = tuple[Texts, Texts]
Step: TypeAlias = Callable[[], None]  # one forward and backward pass


class Encoder(nn.Module):
    """A map from ids (B, T), padded with 0, to unit vectors: means over the tokens."""

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
    """Return random texts with the given lengths in tokens."""
    return [torch.randint(1, VOCABULARY, (int(n),)) for n in lengths]


def pad(sequences: Texts) -> Tensor:
    """Return texts as one padded tensor."""
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True)


def by_rows(column: Texts) -> list[list[int]]:
    """Group a column in its order, as the peer does."""
    rows = range(len(column))
    return [list(rows[start : start + CHUNK]) for start in rows[::CHUNK]]


def by_tokens(column: Texts) -> list[list[int]]:
    """Group a column as this library does by default."""
    return list(map(list, by_mean_tokens(CHUNK)(column)))


def encoded_column(model: Encoder, column: Texts, chunker: Chunker) -> Tensor:
    """Return the vectors of a column, encoded in chunks."""
    groups = chunker(column)
    vectors = torch.cat([model(pad([column[row] for row in group])) for group in groups])
    rows = [row for group in groups for row in group]
    return vectors if rows == sorted(rows) else vectors[torch.tensor(rows).argsort()]


def direct(model: Encoder, columns: Columns) -> Step:
    """Return the step that encodes both columns of the whole batch in one pass."""

    def step() -> None:
        model.zero_grad()
        vectors = model(pad(columns[0] + columns[1]))
        info_nce(*vectors.chunk(2)).backward()

    return step


def chunked(model: Encoder, columns: Columns, chunker: Chunker) -> Step:
    """Return the step with one graph of all chunks, the reference for the cached gradients."""

    def step() -> None:
        model.zero_grad()
        info_nce(*(encoded_column(model, column, chunker) for column in columns)).backward()

    return step


def encoded(model: Encoder, columns: Columns, chunker: Chunker) -> Step:
    """Return the second forward pass alone: with ``chunked``, a lower bound for two passes."""

    @torch.no_grad()
    def step() -> None:
        for column in columns:
            encoded_column(model, column, chunker)

    return step


def cached(model: Encoder, columns: Columns, keep: int, chunk: int | Chunker = CHUNK) -> Step:
    """Return the step of this library that stores the graphs of ``keep`` chunks."""

    def step() -> None:
        model.zero_grad()
        cached_backward([model, model], columns, info_nce, chunk, collate=pad, keep=keep)

    return step


def peer(model: Encoder, columns: Columns) -> Step:
    """Return the step of the peer, which splits padded ids into chunks and trims each chunk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated import paths
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
