"""Batches of images or rows to estimate, of sizes that bound the memory.

A decoder that evaluates every position of a row, as a transformer over words, needs memory for
rows x latents x positions.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from density.estimation.streams import rows_with_streams
from density.model import LatentModel
from univae.row_groups import in_whole_groups, with_whole_groups
from univae.trained import ScoringBatch

__all__ = [
    "POSITIONS",
    "PositionDecoder",
    "contiguous_draws",
    "filled_batch",
    "row_batches",
    "rows_at_once",
    "samples_at_once",
    "scored_at_once",
    "some_rows",
    "whole_groups",
]

POSITIONS = 16_384  # decoded at once: bounds the memory of activations
ROWS = 100  # images or rows in a batch, at most
LATENTS = 1600  # latents of all rows that are decoded at once


@runtime_checkable
class PositionDecoder(Protocol):
    """A model whose decoder evaluates a row position by position, as a transformer over words."""

    @property
    def positions(self) -> int:
        """The number of positions of a row."""
        ...


def row_batches(model: LatentModel, x: Tensor, latents: int) -> Iterator[ScoringBatch]:
    """Yield the rows in batches, as many as fit into memory with ``latents`` latents each."""
    size = in_whole_groups(scored_at_once(model, latents), len(x))
    for start in range(0, len(x), size):
        batch = x[start : start + size]
        rows = list(range(start, start + len(batch)))
        yield filled_batch(model, rows, batch, size)


def filled_batch(model: LatentModel, rows: list[int], x: Tensor, size: int) -> ScoringBatch:
    """Return rows as a batch, filled to whole groups unless batches of ``size`` are single rows."""
    if size > 1:
        x = with_whole_groups(x)
    return ScoringBatch(rows, x, samples_at_once(model, len(x)))


def scored_at_once(model: LatentModel, latents: int) -> int:
    """Return how many rows fit into memory when they are scored with ``latents`` latents each."""
    return rows_at_once(model, min(ROWS, max(1, LATENTS // latents)), latents)


def rows_at_once(model: LatentModel, most: int, samples: int = 16) -> int:
    """Return how many rows fit into memory with ``samples`` samples each, at most ``most``.

    The default is that of a refined posterior.
    """
    if not isinstance(model, PositionDecoder):
        return most
    return min(most, max(1, POSITIONS // (samples * model.positions)))


def samples_at_once(model: LatentModel, count: int) -> int | None:
    """Return how many samples of each of ``count`` rows fit into memory.

    None lets the estimator choose.
    """
    if not isinstance(model, PositionDecoder):
        return None
    return max(1, POSITIONS // (count * model.positions))


def contiguous_draws(values: Float[Tensor, "K *rest"]) -> Float[Tensor, "K *rest"]:
    """Return values of K draws, stored so that those of a datum lie beside each other.

    Sums over the draws then add the same terms in the same order beside any number of data.
    """
    return values.movedim(0, -1).contiguous().movedim(-1, 0)


def whole_groups(rows: Bool[Tensor, "B"] | Int[Tensor, "rows"], most: int) -> Int[Tensor, "padded"]:
    """Return the indices of rows, the last one repeated to fill :mod:`groups <univae.row_groups>`.

    They are at most ``most``, the rows of the whole batch, which fits into memory.
    """
    index = rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows
    return with_whole_groups(index)[: max(most, len(index))]


def some_rows(x: Tensor, rows: Bool[Tensor, "B"] | Int[Tensor, "rows"]) -> Tensor:
    """Return some rows of a batch, in :func:`whole_groups`, with their streams."""
    return rows_with_streams(x, whole_groups(rows, len(x)))
