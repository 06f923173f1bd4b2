"""Batch sizes that bound the memory of decoders which evaluate every position of a row."""

from typing import Protocol, runtime_checkable

import density

__all__ = ["POSITIONS", "PositionDecoder", "rows_at_once", "samples_at_once"]

POSITIONS = 16_384  # decoded at once: bounds the memory of activations


@runtime_checkable
class PositionDecoder(Protocol):
    """A model whose decoder evaluates a row position by position, as a transformer over words."""

    @property
    def positions(self) -> int:
        """The number of positions of a row."""
        ...


def rows_at_once(model: density.LatentModel, most: int, samples: int = 16) -> int:
    """Return how many rows fit into memory with ``samples`` samples each, at most ``most``.

    The default is that of a refined posterior.
    """
    if not isinstance(model, PositionDecoder):
        return most
    return min(most, max(1, POSITIONS // (samples * model.positions)))


def samples_at_once(model: density.LatentModel, count: int) -> int | None:
    """Return how many samples of each of ``count`` rows fit into memory.

    None lets the estimator choose.
    """
    if not isinstance(model, PositionDecoder):
        return None
    return max(1, POSITIONS // (count * model.positions))
