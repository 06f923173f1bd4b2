"""Images or rows of a table to score, and their bits per dimension."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from density.likelihoods.bits import BitsPerDim, bits_per_dim
from density.likelihoods.head import Pixels
from univae.checkpoint import JsonObject
from univae.trained import Scoring, ScoringBatch

__all__ = ["RowScoring"]

IMAGE_AXES = 3  # channels, height, width


@dataclass(frozen=True)
class RowScoring(Scoring):
    """Images or rows to score by a model of ``pixels``."""

    pixels: Pixels

    @classmethod
    def of(cls, x: Tensor, batches: Iterator[ScoringBatch], pixels: Pixels) -> "RowScoring":
        """Return the rows x (N, \\*shape), in the units of the model, with their batches."""
        unit = "image" if len(pixels.shape) == IMAGE_AXES else "row"
        return cls(len(x), batches, {}, unit, pixels)

    def rates(self, log_likelihood: float) -> JsonObject:
        """Return ``bits_per_dim``, None where the log-likelihood is not finite."""
        value = self._bits(log_likelihood).value.item()
        return {"bits_per_dim": value if math.isfinite(value) else None}

    def notes(self) -> list[str]:
        """Return the convention of ``bits_per_dim``."""
        return [self._bits(0.0).convention]

    def _bits(self, log_likelihood: float) -> BitsPerDim:
        nats = torch.tensor(log_likelihood, dtype=torch.float64)
        return bits_per_dim(nats, self.pixels.dims, self.pixels.nats)
