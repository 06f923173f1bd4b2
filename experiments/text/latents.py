"""Two principal components of the latents of texts, for the map in a report."""

from collections.abc import Sequence

import torch
from torch import Tensor

from univae.vae.trained import TrainedText

__all__ = ["latent_map"]

AXES = 2
SMALLEST = 1e-30  # least divisor: the variance of equal codes is 0


def latent_map(run: TrainedText, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the first two principal components of texts' codes, (N, 2), in float64.

    The second result is the share of the variance that each component explains, (2,).
    """
    z = run.modes(texts).flatten(1).double()
    z = z - z.mean(0)
    _, singular_values, axes = torch.linalg.svd(z, full_matrices=False)
    variances = singular_values.square()
    return z @ axes[:AXES].T, variances[:AXES] / variances.sum().clamp_min(SMALLEST)
