"""Transformer parts: the block, embeddings with a tied head, and a key/value cache. Models own the loop over layers.

``norm="post"`` is the published RoFormer and BERT layout: the norm follows the residual sum, the embedding is normed,
and the head transforms before it decodes. ``norm="pre"`` norms the input of each branch and the rows before the head;
it trains from scratch without care for the step size.

References:
    RoFormer (Su et al., 2021), https://arxiv.org/abs/2104.09864
    On Layer Normalization in the Transformer Architecture (Xiong et al., 2020), https://arxiv.org/abs/2002.04745
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from univae.attention import Attention, Mix, Scale, attend

__all__ = ["Block", "Embedding", "Head", "KeyValueCache", "Norm", "initialise"]

Norm = Literal["pre", "post"]


class Block(nn.Module):
    """Attention and a two-layer GELU network, each a residual branch; ``mix`` says who attends to whom."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0, norm: Norm = "pre") -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.attention = Attention(width, heads)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch rows width"], phase: Complex[Tensor, "#batch rows half"], mix: Mix
    ) -> Float[Tensor, "batch out width"]:
        """Returns the last rows of ``x``, as many as ``mix`` attends for; the rows before only serve as keys."""
        first, second = self.norms
        attended = self.attention(first(x) if self.pre else x, phase, mix)
        x = x[:, x.shape[1] - attended.shape[1] :] + self.dropout(attended)
        if self.pre:
            return x + self.dropout(self.network(second(x)))
        x = first(x)

        return second(x + self.dropout(self.network(x)))

    def remember(self, x: Tensor, phase: Tensor, cache: "KeyValueCache") -> None:
        """Stores the rows' keys and values and computes nothing else."""
        self.attention(self.norms[0](x) if self.pre else x, phase, cache.store)


class Embedding(nn.Module):
    """Token plus segment embedding: one table of tokens for both halves, one vector that says which half it is."""

    def __init__(self, vocab_size: int, width: int, dropout: float = 0.0, norm: Norm = "pre") -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width) if norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Int[Tensor, "*batch"], segment: int) -> Float[Tensor, "*batch width"]:
        return self.dropout(self.norm(self.tokens(ids) + self.segments.weight[segment]))


class Head(nn.Module):
    """Rows to logits with the tied token table, which the caller passes in: no tensor is stored twice.

    ``silent`` ids have logit -inf: they are never a next token, so texts without them share all the probability.
    """

    silent: Tensor

    def __init__(self, vocab_size: int, width: int, norm: Norm = "pre", silent: Sequence[int] = ()) -> None:
        super().__init__()
        transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.transform = transform if norm == "post" else nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        unheard = torch.zeros(vocab_size, dtype=torch.bool).index_fill(0, torch.tensor(silent, dtype=torch.long), True)
        self.register_buffer("silent", unheard, persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch width"], table: Float[Tensor, "vocab width"]
    ) -> Float[Tensor, "*batch vocab"]:
        return F.linear(self.transform(x), table, self.bias.masked_fill(self.silent, -math.inf))


@dataclass
class KeyValueCache:
    """One layer's keys and values in buffers of a fixed size, filled from the front.

    ``mix`` is what a :class:`Block` is called with: it stores the new rows' keys and values and lets the rows see
    everything stored so far.
    """

    buffer: Float[Tensor, "2 batch heads capacity D"]
    scale: Scale = "sqrt"
    base: int = 512
    length: int = 0

    def store(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Stores the new rows and gives none back."""
        stop = self.length + k.shape[-2]
        self.buffer[0, :, :, self.length : stop] = k
        self.buffer[1, :, :, self.length : stop] = v
        self.length = stop
        return q[..., :0, :]

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.store(q, k, v)
        keys, values = self.buffer[:, :, :, : self.length].unbind(0)
        return attend(q, keys, values, causal=True, scale=self.scale, base=self.base)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Row i becomes what row ``rows[i]`` was: the survivors of a beam."""
        self.buffer[:, :, :, : self.length] = self.buffer[:, rows, :, : self.length]


@torch.no_grad()
def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Draws every linear and embedding weight from N(0, std^2) cut at two deviations and zeroes every bias."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
