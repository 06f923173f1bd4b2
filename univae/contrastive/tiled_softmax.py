r"""The logarithm of a softmax's denominator, computed in tiles without the matrix of all scores.

.. math:: \mathrm{lse}_i = \log \sum_{j \text{ visible}} e^{\beta \, q_i \cdot k_j}

Forward, each tile of ``rows`` queries by ``rows`` keys updates a running maximum and a running sum.
Backward, the scores are computed again, since :math:`\partial\, \mathrm{lse}_i / \partial s_{ij} =
e^{s_{ij} - \mathrm{lse}_i}` needs only the result. Memory beyond the vectors and their gradients is
one tile, whatever their number.

References:
    Online normalizer calculation for softmax (Milakov and Gimelshein, 2018),
    https://arxiv.org/abs/1805.02867
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx

__all__ = ["Candidates", "log_partition"]


@dataclass(frozen=True)
class Candidates:
    """The target key of each query, and the keys excluded from its softmax.

    ``groups`` are those of the queries and of the keys: all keys in the group of a query are
    excluded but its target.
    """

    targets: Int[Tensor, "queries"]  # the index of each query's key, never excluded
    selves: Int[Tensor, "queries"] | None = None  # the index of each query among the keys, excluded
    groups: tuple[Int[Tensor, "queries"], Int[Tensor, "keys"]] | None = None

    def hidden(self, rows: slice, columns: slice) -> Bool[Tensor, "rows columns"] | None:
        """Return True where a key of ``columns`` is excluded for a query of ``rows``.

        None if no key is excluded.
        """
        j = torch.arange(columns.start, columns.stop, device=self.targets.device)
        hidden = None
        if self.groups is not None:
            query_groups, key_groups = self.groups
            same_group = query_groups[rows, None] == key_groups[columns]
            hidden = same_group & (self.targets[rows, None] != j)
        if self.selves is not None:
            is_self = self.selves[rows, None] == j
            hidden = is_self if hidden is None else hidden | is_self
        return hidden


def log_partition(
    queries: Float[Tensor, "queries d"],
    keys: Float[Tensor, "keys d"],
    scale: Float[Tensor, ""],
    candidates: Candidates,
    rows: int | None = None,
) -> Float[Tensor, "queries"]:
    """Return lse of every query.

    Args:
        queries: one vector a row.
        keys: one vector a row.
        scale: the inverse temperature.
        candidates: which keys a query is compared with.
        rows: the size of a tile; None computes one matrix, which is twice differentiable.
    """
    if rows is not None:
        apply = cast("Callable[..., Tensor]", _Tiled.apply)
        return apply(queries, keys, scale, candidates, rows)
    scores = scale * (queries @ keys.mT)
    hidden = candidates.hidden(slice(0, len(queries)), slice(0, len(keys)))
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    return scores.logsumexp(-1)


class _TiledContext(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]
    candidates: Candidates
    rows: int


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Tensor,
        keys: Tensor,
        scale: Tensor,
        candidates: Candidates,
        rows: int,
    ) -> Float[Tensor, "queries"]:
        lse = queries.new_empty(len(queries))
        for i in _tiles(len(queries), rows):
            q = scale * queries[i]
            # The target is never excluded, so that the running maximum starts finite.
            top = (q * keys[candidates.targets[i]]).sum(-1)
            total = torch.zeros_like(top)
            for j in _tiles(len(keys), rows):
                scores = _scores(q, keys[j], candidates.hidden(i, j))
                higher = torch.maximum(top, scores.amax(-1))
                total.mul_((top - higher).exp_()).add_(scores.sub_(higher[:, None]).exp_().sum(-1))
                top = higher
            lse[i] = top + total.log_()
        ctx.save_for_backward(queries, keys, scale, lse)
        context = cast(_TiledContext, ctx)
        context.candidates = candidates
        context.rows = rows
        return lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        context = cast(_TiledContext, ctx)
        queries, keys, scale, lse = context.saved_tensors
        query_gradient = torch.zeros_like(queries)
        key_gradient = torch.zeros_like(keys)
        scale_gradient = torch.zeros_like(scale)
        for i in _tiles(len(queries), context.rows):
            q = scale * queries[i]
            # the mean of the keys under the softmax, times the gradient of the row
            mean_key = torch.zeros_like(q)
            for j in _tiles(len(keys), context.rows):
                scores = _scores(q, keys[j], context.candidates.hidden(i, j))
                weights = scores.sub_(lse[i, None]).exp_().mul_(grad[i, None])
                mean_key.addmm_(weights, keys[j])
                key_gradient[j].addmm_(weights.mT, q)
            query_gradient[i] = scale * mean_key
            scale_gradient += (queries[i] * mean_key).sum()
        return query_gradient, key_gradient, scale_gradient, None, None


def _scores(q: Tensor, k: Tensor, hidden: Tensor | None) -> Tensor:
    scores = q @ k.mT
    return scores if hidden is None else scores.masked_fill_(hidden, -math.inf)


def _tiles(count: int, rows: int) -> Iterator[slice]:
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))
