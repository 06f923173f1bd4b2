"""Transformer parts: the block, embeddings with a tied head. Models own the loop over layers.

``norm="post"`` is the published RoFormer and BERT layout: the norm follows the residual sum, the
embedding is normed, and the head transforms before it decodes. ``norm="pre"`` norms the input of
each branch and the rows before the head; it trains from scratch without care for the step size.

References:
    RoFormer (Su et al., 2021), https://arxiv.org/abs/2104.09864 On Layer Normalization in the
    Transformer Architecture (Xiong et al., 2020), https://arxiv.org/abs/2002.04745
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from univae.attention.cache import KeyValueCache
from univae.attention.core import Attention, Mix, Step
from univae.text.special import START

__all__ = ["Block", "Embedding", "Feed", "Head", "Norm", "initialise"]

Norm = Literal["pre", "post"]


class Block(nn.Module):
    """Attention and a two-layer GELU network, each a residual branch.

    ``mix`` says who attends to whom.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, norm: Norm = "pre") -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.attention = Attention(width, heads)
        # of the attention and of the network
        self.first = nn.LayerNorm(width)
        self.second = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch rows width"],
        phase: Complex[Tensor, "#batch rows half"],
        mix: Mix,
    ) -> Float[Tensor, "batch out width"]:
        """Return the last rows of ``x``, as many as ``mix`` attends for.

        The rows before only serve as keys.
        """
        attended = self.attention(self.first(x) if self.pre else x, phase, mix)
        if attended.shape[1] < x.shape[1]:
            x = x[:, x.shape[1] - attended.shape[1] :]
        x = x + self.dropout(attended)
        if self.pre:
            return x + self.dropout(self.network(self.second(x)))
        x = self.first(x)

        return self.second(x + self.dropout(self.network(x)))

    def network(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return self.narrow(F.gelu(self.wide(x)))

    def stepper(self, cache: KeyValueCache) -> Step:
        """Return ``forward`` of one new row a sequence behind those in ``cache``: (x, phase) -> x, without dropout.

        The same numbers at half the cost of a small model's step, which is overhead: the weights
        are looked up once, here, and no module is called.
        """
        attend = self.attention.stepper(cache)
        pre = self.pre
        first, second = (
            partial(_norm, n.normalized_shape, n.weight, n.bias, n.eps)
            for n in (self.first, self.second)
        )
        wide, narrow = ((part.weight, part.bias) for part in (self.wide, self.narrow))

        def step(x: Tensor, phase: Tensor) -> Tensor:
            if pre:
                x = x + attend(first(x), phase)
                return x + F.linear(F.gelu(F.linear(second(x), *wide)), *narrow)
            x = first(x + attend(x, phase))
            return second(x + F.linear(F.gelu(F.linear(x, *wide)), *narrow))

        return step

    def remember(
        self, x: Float[Tensor, "batch width"], phase: Complex[Tensor, "half"], cache: KeyValueCache
    ) -> None:
        """Store a row's key and value."""
        self.attention.stepper(cache)(self.first(x) if self.pre else x, phase)


def _norm(shape: tuple[int, ...], weight: Tensor, bias: Tensor, eps: float, x: Tensor) -> Tensor:
    return torch.layer_norm(x, shape, weight, bias, eps)


@runtime_checkable
class Feed(Protocol):
    """Embeds a stream that is being written: takes the newest token of every sequence and returns its row."""

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch width"]: ...

    def reorder(self, rows: Int[Tensor, "rows"]) -> None: ...


class Embedding(nn.Module):
    """Token plus segment embedding: one table of tokens for both halves, one vector that says which half it is."""

    def __init__(
        self, vocab_size: int, width: int, dropout: float = 0.0, norm: Norm = "pre"
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width) if norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Int[Tensor, "*batch"], segment: int) -> Float[Tensor, "*batch width"]:
        return self.dropout(self.norm(self.tokens(ids) + self.segments.weight[segment]))

    def read(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch rows width"]:
        """The encoder's rows: those of the text, then row 0."""
        start = ids.new_full((ids.shape[0], 1), START)
        return self(torch.cat((ids, start), 1), 0)

    def write(self, inputs: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length width"]:
        """The decoder's rows, from the start token and the text without its last token."""
        return self(inputs, 1)

    def feed(self, rows: int) -> Feed:
        """Return :meth:`write` of one token a sequence after the other, without dropout."""
        return _LineFeed(self)


class _LineFeed:
    """A row is its token's; the table is looked up once, here, and no module is called."""

    def __init__(self, embedding: Embedding) -> None:
        self.norm = embedding.norm
        self.table = embedding.tokens.weight
        self.segment = embedding.segments.weight[1]

    def __call__(self, tokens: Tensor) -> Tensor:
        return self.norm(F.embedding(tokens, self.table) + self.segment)

    def reorder(self, rows: Tensor) -> None:
        """Nothing is kept."""


class Head(nn.Module):
    """Rows to logits with the tied token table, which the caller passes in: no tensor is stored twice.

    ``silent`` ids have logit -inf: they are never a next token, so texts without them share all the
    probability.
    """

    silent: Tensor

    def __init__(
        self, vocab_size: int, width: int, norm: Norm = "pre", silent: Sequence[int] = ()
    ) -> None:
        super().__init__()
        transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.transform = transform if norm == "post" else nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        unheard = torch.zeros(vocab_size, dtype=torch.bool).index_fill(
            0, torch.tensor(silent, dtype=torch.long), True
        )
        self.register_buffer("silent", unheard, persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch width"], table: Float[Tensor, "vocab width"]
    ) -> Float[Tensor, "*batch vocab"]:
        return F.linear(self.transform(x), table, self.heard())

    def heard(self) -> Float[Tensor, "vocab"]:
        """The bias of every logit, -inf for the silent ones."""
        return self.bias.masked_fill(self.silent, -math.inf)


@torch.no_grad()
def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Draw every linear and embedding weight from N(0, std^2) cut at two deviations and zeroes every bias."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
