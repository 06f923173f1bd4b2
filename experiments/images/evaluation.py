"""Measures of an image or table VAE on test data besides their likelihood: the use of latents."""

from collections.abc import Iterator

from torch import Tensor

from density.trained import TrainedDensity
from experiments.data.arrays import Data
from experiments.evaluation.bounds import layered_bound
from experiments.evaluation.latent_model import COMPARED, bound_and_use
from univae.checkpoint import JsonObject

__all__ = ["row_measures"]

ROWS = 100  # rows evaluated at once: bounds the memory


def row_measures(run: TrainedDensity, data: Data, count: int, seed: int) -> JsonObject:
    """Return bound, KL per latent layer and use of the latents on the first ``count`` rows.

    ``seed`` is that of the draws of the bound.
    """
    compared = data.batch(slice(0, min(COMPARED, count))).to(run.device)
    return bound_and_use(
        run.model,
        _batches(run, data, count),
        lambda batch: layered_bound(run.model, batch),
        compared,
        seed,
    )


def _batches(run: TrainedDensity, data: Data, count: int) -> Iterator[Tensor]:
    for start in range(0, count, ROWS):
        yield data.batch(slice(start, min(count, start + ROWS))).to(run.device)
