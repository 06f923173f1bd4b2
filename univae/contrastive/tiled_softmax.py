r"""The logarithm of a softmax's denominator, in tiles: no matrix of all scores is ever held.

.. math:: \mathrm{lse}_i = \log \sum_{j \text{ visible}} e^{\beta \, q_i \cdot k_j}

Forward, each tile of ``rows`` queries by ``rows`` keys updates a running maximum and a running sum.
Backward, it is computed again, since :math:`\partial\, \mathrm{lse}_i / \partial s_{ij} = e^{s_{ij}
- \mathrm{lse}_i}` needs the result alone. Memory beyond the vectors and their gradients is one
tile, whatever their number.

References:
    Online normalizer calculation for softmax (Milakov and Gimelshein, 2018),
    https://arxiv.org/abs/1805.02867
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Candidates", "log_partition"]


@dataclass(frozen=True)
class Candidates:
    """Each query's own key, and which of the others it does not see: itself, and the false negatives."""

    targets: Int[Tensor, "queries"]  # always seen
    selves: Int[Tensor, "queries"] | None = None  # never seen
    # the target alone is seen of one's own
    groups: tuple[Int[Tensor, "queries"], Int[Tensor, "keys"]] | None = None

    def hidden(self, rows: slice, columns: slice) -> Bool[Tensor, "rows columns"] | None:
        """True where a query of those rows does not see a key of those columns.

        None where all is seen.
        """
        j = torch.arange(columns.start, columns.stop, device=self.targets.device)
        hidden = None
        if self.groups is not None:
            of_queries, of_keys = self.groups
            same = of_queries[rows, None] == of_keys[columns]
            hidden = same & (self.targets[rows, None] != j)
        if self.selves is not None:
            own = self.selves[rows, None] == j
            hidden = own if hidden is None else hidden | own
        return hidden


def log_partition(
    queries: Float[Tensor, "queries d"],
    keys: Float[Tensor, "keys d"],
    scale: Float[Tensor, ""],
    candidates: Candidates,
    rows: int | None = None,
) -> Float[Tensor, "queries"]:
    """Return lse of every query: in tiles of ``rows`` by ``rows``, or in one matrix, then twice differentiable."""
    if rows is not None:
        return _Tiled.apply(queries, keys, scale, candidates, rows)
    scores = scale * (queries @ keys.mT)
    hidden = candidates.hidden(slice(0, len(queries)), slice(0, len(keys)))
    return (scores if hidden is None else scores.masked_fill(hidden, -math.inf)).logsumexp(-1)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, scale: Tensor, candidates: Candidates, rows: int
    ) -> Float[Tensor, "queries"]:
        lse = queries.new_empty(len(queries))
        for i in _slices(len(queries), rows):
            q = scale * queries[i]
            # the own key is always seen: a finite start
            top = (q * keys[candidates.targets[i]]).sum(-1)
            total = torch.zeros_like(top)
            for j in _slices(len(keys), rows):
                scores = _scores(q, keys[j], candidates.hidden(i, j))
                higher = torch.maximum(top, scores.amax(-1))
                total.mul_((top - higher).exp_()).add_(scores.sub_(higher[:, None]).exp_().sum(-1))
                top = higher
            lse[i] = top + total.log_()
        ctx.save_for_backward(queries, keys, scale, lse)
        ctx.candidates = candidates
        ctx.rows = rows
        return lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        queries, keys, scale, lse = ctx.saved_tensors
        to_queries = torch.zeros_like(queries)
        to_keys = torch.zeros_like(keys)
        to_scale = torch.zeros_like(scale)
        for i in _slices(len(queries), ctx.rows):
            q = scale * queries[i]
            # of the keys, under the softmax, times the gradient of the row
            mean = torch.zeros_like(q)
            for j in _slices(len(keys), ctx.rows):
                scores = _scores(q, keys[j], ctx.candidates.hidden(i, j))
                share = scores.sub_(lse[i, None]).exp_().mul_(grad[i, None])
                mean.addmm_(share, keys[j])
                to_keys[j].addmm_(share.mT, q)
            to_queries[i] = scale * mean
            to_scale += (queries[i] * mean).sum()
        return to_queries, to_keys, to_scale, None, None


def _scores(q: Tensor, k: Tensor, hidden: Tensor | None) -> Tensor:
    scores = q @ k.mT
    return scores if hidden is None else scores.masked_fill_(hidden, -math.inf)


def _slices(count: int, rows: int) -> Iterator[slice]:
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))
