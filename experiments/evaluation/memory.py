"""Batch sizes that bound the memory of decoders: :mod:`density.estimation.batches`."""

from density.estimation.batches import (
    POSITIONS,
    PositionDecoder,
    rows_at_once,
    samples_at_once,
)

__all__ = ["POSITIONS", "PositionDecoder", "rows_at_once", "samples_at_once"]
