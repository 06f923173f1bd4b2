"""Batches of images or rows to estimate, of sizes that bound the memory.

A decoder that evaluates every position of a row, as a transformer over words, needs memory for
rows x latents x positions.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from density.model import LatentModel
from univae.trained import ScoringBatch

__all__ = [
    "POSITIONS",
    "PositionDecoder",
    "contiguous_draws",
    "row_batches",
    "rows_at_once",
    "samples_at_once",
    "scored_at_once",
    "whole_groups",
    "with_whole_groups",
]

POSITIONS = 16_384  # decoded at once: bounds the memory of activations
ROWS = 100  # images or rows in a batch, at most
LATENTS = 1600  # latents of all rows that are decoded at once
GROUP = 4  # rows; see with_whole_groups


@runtime_checkable
class PositionDecoder(Protocol):
    """A model whose decoder evaluates a row position by position, as a transformer over words."""

    @property
    def positions(self) -> int:
        """The number of positions of a row."""
        ...


def row_batches(model: LatentModel, x: Tensor, latents: int) -> Iterator[ScoringBatch]:
    """Yield the rows in batches, as many as fit into memory with ``latents`` latents each."""
    size = scored_at_once(model, latents)
    for start in range(0, len(x), size):
        batch = x[start : start + size]
        rows = list(range(start, start + len(batch)))
        yield ScoringBatch(rows, batch, samples_at_once(model, len(batch)))


def scored_at_once(model: LatentModel, latents: int) -> int:
    """Return how many rows are scored at once with ``latents`` latents each."""
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


def with_whole_groups(x: Tensor) -> Tensor:
    """Return a batch with its last row repeated until their number is a multiple of four.

    Matrix products round the same row alike beside any number of whole groups of rows, and not
    beside one or three: a datum's numbers then do not depend on how many others are beside it.
    """
    missing = -len(x) % GROUP
    return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x


def whole_groups(rows: Bool[Tensor, "B"] | Int[Tensor, "rows"]) -> Int[Tensor, "padded"]:
    """Return the indices of rows, with the last one repeated as in :func:`with_whole_groups`."""
    index = rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows
    return with_whole_groups(index)
