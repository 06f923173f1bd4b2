r"""The logarithm of a softmax's denominator, computed in tiles without the matrix of all scores.

.. math:: \mathrm{lse}_i = \log \sum_{j \text{ visible}} e^{\beta \, q_i \cdot k_j}

Forward, each tile of ``rows`` queries by ``rows`` keys is added to the sums

.. math:: Z_i = \sum_j 2^{\bar s_{ij} - m_i}, \qquad \bar s_{ij} = \beta \log_2 e \; q_i \cdot k_j

where :math:`m_i` is the score of the target, so that :math:`Z_i \ge 1`; where that overflows, the
maximum. Backward, the scores are computed again, since :math:`\partial\, \mathrm{lse}_i / \partial
s_{ij} = e^{s_{ij} - \mathrm{lse}_i}` needs only the result. Memory beyond the vectors and their
gradients is one tile, whatever their number.

A tile is passed over as few times as possible: the product subtracts the shift, and :math:`2^x`
takes a third of the time of :math:`e^x` on a CPU.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx

from univae.devices import all_true, is_readable

__all__ = ["Candidates", "log_partition"]

LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Candidates:
    """The target key of each query, and the keys excluded from its softmax.

    ``groups`` are those of the queries and of the keys: all keys in the group of a query are
    excluded but its target.
    """

    targets: Int[Tensor, "queries"]  # the index of each query's key, never excluded
    selves: Int[Tensor, "queries"] | None = None  # the index of each query among the keys, excluded
    groups: tuple[Int[Tensor, "queries"], Int[Tensor, "keys"]] | None = None

    def hide_(
        self, scores: Float[Tensor, "rows columns"], rows: slice, columns: slice
    ) -> Float[Tensor, "rows columns"]:
        """Set the scores of ``rows`` with excluded keys among ``columns`` to -inf, and return them.

        Modifies ``scores``.
        """
        if self.groups is not None:
            query_groups, key_groups = self.groups
            same_group = query_groups[rows, None] == key_groups[columns]
            _fill_at(same_group, self.targets[rows], columns, value=False)
            scores.masked_fill_(same_group, -math.inf)
        if self.selves is not None:
            _fill_at(scores, self.selves[rows], columns, value=-math.inf)
        return scores


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
        rows: the most queries and the most keys in a tile; None computes one matrix, which is twice
            differentiable.
    """
    if rows is not None:
        apply = cast("Callable[..., Tensor]", _Tiled.apply)
        return apply(queries, keys, scale, candidates, rows)
    scores = scale * (queries @ keys.mT)
    return candidates.hide_(scores, slice(0, len(queries)), slice(0, len(keys))).logsumexp(-1)


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
        tiles = _Tiles(queries, keys, scale * LOG2_E, candidates, rows)
        lse = queries.new_empty(len(queries))
        lse_bits = torch.empty_like(lse)
        for i in tiles.row_slices():
            target = tiles.target_score(i)
            shift = target
            total = tiles.total(i, shift)
            if not all_true(total.isfinite()):
                shift = tiles.maximum(i)
                total = tiles.total(i, shift)
            bits = total.log2_()
            lse_bits[i] = bits + shift
            # not lse_bits / LOG2_E: the loss subtracts the target's score, rounded like this
            target_nats = (scale * queries[i] * keys[candidates.targets[i]]).sum(-1)
            lse[i] = target_nats + (bits + (shift - target)) / LOG2_E
        ctx.save_for_backward(queries, keys, scale, lse_bits)
        context = cast(_TiledContext, ctx)
        context.candidates = candidates
        context.rows = rows
        return lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        context = cast(_TiledContext, ctx)
        queries, keys, scale, lse_bits = context.saved_tensors
        tiles = _Tiles(queries, keys, scale * LOG2_E, context.candidates, context.rows)
        mean_keys = torch.zeros_like(queries)  # of every query, under its softmax
        key_gradient = torch.zeros_like(keys.mT, memory_format=torch.contiguous_format)
        for i in tiles.row_slices():
            by_row = (scale * grad[i] * queries[i].mT).contiguous()
            for j, weights in tiles.powers(i, lse_bits[i]):
                mean_keys[i].addmm_(weights, keys[j])
                # transposed: products with a transposed tile take twice the time
                key_gradient[:, j].addmm_(by_row, weights)
        query_gradient = mean_keys.mul_(grad[:, None])
        scale_gradient = (queries * query_gradient).sum()
        return scale * query_gradient, key_gradient.mT.contiguous(), scale_gradient, None, None


class _Tiles:
    """The scores of queries and keys, products times ``factor``, in tiles of ``rows`` by ``rows``.

    The last tiles may be smaller.
    """

    def __init__(
        self, queries: Tensor, keys: Tensor, factor: Tensor, candidates: Candidates, rows: int
    ) -> None:
        self.queries = queries
        self.keys = keys
        self.factor = factor
        self.candidates = candidates
        self.rows = rows

    def row_slices(self) -> Iterator[slice]:
        """Yield the rows of each row of tiles."""
        return _slices(len(self.queries), self.rows)

    def target_score(self, i: slice) -> Tensor:
        """Return the score of each row's target."""
        targets = self.keys[self.candidates.targets[i]]
        return (self.factor * self.queries[i] * targets).sum(-1)

    def scores(self, i: slice, shift: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the columns and the scores, minus the shift of each row, of a row of tiles.

        The next tile overwrites the scores.
        """
        q = self.factor * self.queries[i]
        minus_shift = -shift[:, None]
        buffer = q.new_empty(len(q) * min(self.rows, len(self.keys)))
        for j in _slices(len(self.keys), self.rows):
            k = self.keys[j]
            scores = buffer[: len(q) * len(k)].view(len(q), len(k))
            torch.addmm(minus_shift, q, k.mT, out=scores)
            yield j, self.candidates.hide_(scores, i, j)

    def powers(self, i: slice, shift: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield two to the power of :meth:`scores`."""
        return ((j, scores.exp2_()) for j, scores in self.scores(i, shift))

    def total(self, i: slice, shift: Tensor) -> Tensor:
        """Return the sum of the powers of each row."""
        total = torch.zeros_like(shift)
        for _, powers in self.powers(i, shift):
            total += powers.sum(-1)
        return total

    def maximum(self, i: slice) -> Tensor:
        """Return the largest score of each row."""
        zero = self.queries.new_zeros(len(self.queries[i]))
        maxima = [scores.amax(-1) for _, scores in self.scores(i, zero)]
        return torch.stack(maxima).amax(0)


def _fill_at(tile: Tensor, indices: Tensor, columns: slice, *, value: float | bool) -> None:
    """Set one element of each row of a tile, at its index, where that is among ``columns``."""
    if not is_readable(indices):  # the number of such rows is not known
        numbers = torch.arange(columns.start, columns.stop, device=tile.device)
        tile.masked_fill_(indices[:, None] == numbers, value)
        return
    rows = ((indices >= columns.start) & (indices < columns.stop)).nonzero().squeeze(1)
    tile[rows, indices[rows] - columns.start] = value


def _slices(count: int, rows: int) -> Iterator[slice]:
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))
