"""Transformer layers: the block, embeddings, and an output layer that shares the token table.

The models loop over the layers. ``norm="post"`` is the layout of RoFormer and BERT: the norm
follows the residual sum, the embedding is normalised, and the head transforms rows before the token
table. ``norm="pre"`` normalises the input of each branch and the rows before the head; it trains
from random weights at a wider range of step sizes. See :mod:`univae.attention.norms`.

References:
    RoFormer (Su et al., 2021), https://arxiv.org/abs/2104.09864
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Inexact, Int
from torch import Tensor, nn

from univae.attention.cache import KeyValueCache
from univae.attention.core import Attention, Mix, Step
from univae.attention.norms import NORMS, Norm
from univae.attention.target_log_prob import target_log_prob
from univae.attention.variant import PLAIN, Variant
from univae.devices import is_readable
from univae.text.special import PAD, START

__all__ = ["Block", "Embedding", "Feed", "Head", "Norm", "initialise"]


class Block(nn.Module):
    """Attention and a two-layer network, each a residual branch."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        norm: Norm = "pre",
        variant: Variant = PLAIN,
    ) -> None:
        super().__init__()
        self.pre = NORMS[norm].pre
        self.activation = variant.kind.function
        self.attention = Attention(width, heads)
        self.first = nn.LayerNorm(width, eps=variant.norm_eps)  # of the attention
        self.second = nn.LayerNorm(width, eps=variant.norm_eps)  # of the network
        self.wide = nn.Linear(width, variant.inner(width))
        self.narrow = nn.Linear(variant.inner(width), width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch rows width"],
        phase: Inexact[Tensor, "#batch rows half"],
        mix: Mix,
    ) -> Float[Tensor, "batch out width"]:
        """Return the last rows of ``x``, as many as ``mix`` returns.

        ``mix`` computes the attention; the rows before the returned ones only serve as keys.
        """
        return self.after(x, mix(*self.before(x, phase)))

    def before(
        self, x: Float[Tensor, "batch rows width"], phase: Inexact[Tensor, "#batch rows half"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the arguments of ``mix``: queries, keys and values of all heads."""
        return self.attention.split(self.first(x) if self.pre else x, phase)

    def after(
        self, x: Float[Tensor, "batch rows width"], mixed: Float[Tensor, "batch heads out D"]
    ) -> Float[Tensor, "batch out width"]:
        """Return the last rows of ``x`` from what ``mix`` returned for each head."""
        attended = self.attention.join(mixed)
        if attended.shape[1] < x.shape[1]:
            x = x[:, x.shape[1] - attended.shape[1] :]
        x = x + self.dropout(attended)

        output: Tensor
        if self.pre:
            output = x + self.dropout(self.network(self.second(x)))
        else:
            x = self.first(x)
            output = self.second(x + self.dropout(self.network(x)))
        return output

    def network(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return the two-layer network of ``x``."""
        output: Tensor = self.narrow(self.activation(self.wide(x)))
        return output

    def stepper(self, cache: KeyValueCache) -> Step:
        """Return ``forward`` of one new row a sequence, without dropout: (x, phase) -> x.

        The row attends to all rows in ``cache``. The results equal those of ``forward``. A step of
        a small model takes half the time, because weights are looked up once and no module is
        called.
        """
        attend = self.attention.stepper(cache)
        first = _norm_function(self.first)
        second = _norm_function(self.second)
        wide = (self.wide.weight, self.wide.bias)
        narrow = (self.narrow.weight, self.narrow.bias)
        activation = self.activation

        def pre_step(x: Tensor, phase: Tensor) -> Tensor:
            x = x + attend(first(x), phase)
            return x + F.linear(activation(F.linear(second(x), *wide)), *narrow)

        def post_step(x: Tensor, phase: Tensor) -> Tensor:
            x = first(x + attend(x, phase))
            return second(x + F.linear(activation(F.linear(x, *wide)), *narrow))

        return pre_step if self.pre else post_step

    def append_to_cache(
        self, x: Float[Tensor, "batch width"], phase: Inexact[Tensor, "half"], cache: KeyValueCache
    ) -> None:
        """Append the key and the value of a row to ``cache``."""
        self.attention.stepper(cache)(self.first(x) if self.pre else x, phase)


def _norm_function(norm: nn.LayerNorm) -> partial[Tensor]:
    return partial(
        torch.layer_norm,
        normalized_shape=norm.normalized_shape,
        weight=norm.weight,
        bias=norm.bias,
        eps=norm.eps,
    )


@runtime_checkable
class Feed(Protocol):
    """The embedding of texts during generation: maps the last token of every text to its row."""

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        """Return the rows of the last tokens."""
        ...

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Replace text i by text ``rows[i]``."""


class Embedding(nn.Module):
    """Token plus segment embedding.

    Encoder (segment 0) and decoder (segment 1) share the table of tokens; each adds a vector. A
    table of another width than the model's is followed by a projection.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        dropout: float = 0.0,
        norm: Norm = "pre",
        variant: Variant = PLAIN,
    ) -> None:
        super().__init__()
        table_width = variant.table_width(width)
        self.tokens = nn.Embedding(vocab_size, table_width)
        self.segments = nn.Embedding(2, table_width)
        self.norm = NORMS[norm].embedding_norm(width, variant)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Identity() if table_width == width else nn.Linear(table_width, width)

    def forward(self, ids: Int[Tensor, "*batch"], segment: int) -> Float[Tensor, "*batch width"]:
        """Return the rows of tokens in a segment."""
        return self.finish(self.tokens(ids) + self.segments.weight[segment])

    def finish(self, rows: Float[Tensor, "*batch table"]) -> Float[Tensor, "*batch width"]:
        """Return rows in the width of the token table normalised, dropped out and projected."""
        finished: Tensor = self.project(self.dropout(self.norm(rows)))
        return finished

    def encoder_rows(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch rows width"]:
        """Return the encoder's rows: those of the text, then row 0, which has the start token."""
        start = ids.new_full((ids.shape[0], 1), START)
        rows: Tensor = self(torch.cat((ids, start), 1), 0)
        return rows

    def decoder_rows(
        self, inputs: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length width"]:
        """Return the decoder's rows; ``inputs`` are the start token and all tokens but the last."""
        rows: Tensor = self(inputs, 1)
        return rows

    def feed(self, rows: int) -> Feed:
        """Return :meth:`decoder_rows` of one token a text at a time, without dropout."""
        return _TextFeed(self)


class _TextFeed:
    """Embeds one token a text; the table is looked up once in the constructor, to save time."""

    def __init__(self, embedding: Embedding) -> None:
        self.norm = embedding.norm
        self.project = embedding.project
        self.table = embedding.tokens.weight
        self.segment = embedding.segments.weight[1]

    def __call__(self, tokens: Tensor) -> Tensor:
        rows: Tensor = self.project(self.norm(F.embedding(tokens, self.table) + self.segment))
        return rows

    def reorder(self, rows: Tensor) -> None:
        """Do nothing: a row depends on its token alone."""


class Head(nn.Module):
    """Logits of rows by the table of the token embedding, an argument of ``forward``.

    ``excluded`` ids have the logit -inf: they never follow, and the distribution is normalised
    over the other tokens.
    """

    excluded: Tensor

    def __init__(
        self,
        vocab_size: int,
        width: int,
        norm: Norm = "pre",
        excluded: Sequence[int] = (),
        variant: Variant = PLAIN,
    ) -> None:
        super().__init__()
        self.transform = NORMS[norm].output_transform(width, variant)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        mask = torch.zeros(vocab_size, dtype=torch.bool)
        mask[list(excluded)] = True
        self.register_buffer("excluded", mask, persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch width"], table: Float[Tensor, "vocab table"]
    ) -> Float[Tensor, "*batch vocab"]:
        """Return the logits of the next token after each row."""
        return self.stepper(table)(x)

    def stepper(self, table: Float[Tensor, "vocab table"]) -> Callable[[Tensor], Tensor]:
        """Return :meth:`forward` for one table."""
        bias = self.masked_bias()
        return lambda x: F.linear(self.transform(x), table, bias)

    def target_log_prob(
        self,
        x: Float[Tensor, "*batch width"],
        table: Float[Tensor, "vocab table"],
        targets: Int[Tensor, "*batch"],
    ) -> Float[Tensor, "*batch"]:
        """Return the log-probability of the token after each row, 0 of padding.

        It is computed in at least float32, and the logits of few rows at once; rows of padding are
        skipped.
        """
        bias = self.masked_bias()
        return self._of_real_rows(
            x, targets, lambda rows, ids: target_log_prob(rows, table, bias, ids)
        )

    def initialise(self) -> None:
        """Set the initial values that :func:`initialise` does not know."""

    def _of_real_rows(
        self, x: Tensor, targets: Tensor, log_prob_of: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return ``log_prob_of`` of the transformed rows with targets, and 0 for padding."""
        real = targets != PAD
        if not is_readable(real):  # the number of real rows is not known
            log_prob = log_prob_of(self.transform(x.flatten(0, -2)), targets.flatten())
            return log_prob.view(targets.shape).masked_fill(~real, 0.0)
        log_prob = log_prob_of(self.transform(x[real]), targets[real])
        return log_prob.new_zeros(targets.shape).masked_scatter(real, log_prob)

    def masked_bias(self) -> Float[Tensor, "vocab"]:
        """Return the bias of every logit, -inf for excluded ids."""
        return self.bias.masked_fill(self.excluded, -math.inf)


@torch.no_grad()
def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Draw linear and embedding weights from N(0, std^2), truncated at 2 std; zero biases."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(child.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(child, nn.Linear) and child.bias is not None:
            nn.init.zeros_(child.bias)
