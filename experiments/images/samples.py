"""Image grids in the report of an image VAE: samples of the prior, and reconstructions."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from density.likelihoods.autoregressive import IMAGE_DIMS
from density.trained import TrainedDensity
from experiments.evaluation.latent_model import codes
from experiments.reports.image_grid import COLUMNS, write_grid
from experiments.training.task import reseed
from univae.checkpoint import JsonObject

__all__ = ["write_samples"]

# Grids with several kinds of rows, which take turns -> what each shows.
ROW_LABELS = {"reconstructions": ("held-out", "reconstruction")}


@torch.no_grad()
def write_samples(run: TrainedDensity, held_out: Tensor, count: int = 2 * COLUMNS) -> JsonObject:
    """Write ``samples/*.png`` with their titles, and return the titles; none for tables."""
    pixels = run.model.output.pixels
    if len(pixels.shape) != IMAGE_DIMS:
        return {}
    reseed(run.config["seed"], "showcase")
    columns = min(COLUMNS, len(held_out))
    whole_rows = min(count, len(held_out)) // columns * columns
    x = held_out[:whole_rows].to(run.device)
    z = run.model.prior().sample(torch.Size((count,)))
    samples, kind = _picture(run.model.likelihood(z))
    reconstructions, _ = _picture(run.model.likelihood(codes(run.model, x)))

    grids = {
        "prior": (f"Draws from the prior: {kind}", samples),
        "reconstructions": (
            f"Held-out data, and below each row its reconstructions: {kind}",
            _interleaved(x, reconstructions, columns),
        ),
    }
    for name, (title, images) in grids.items():
        labels = ROW_LABELS.get(name, ())
        write_grid(run.folder, name, title, images, pixels.levels, columns, labels)
    return {name: title for name, (title, _) in grids.items()}


def _interleaved(above: Tensor, below: Tensor, columns: int) -> Tensor:
    """Return images whose grid alternates rows of ``above`` and ``below``."""
    shape = (-1, columns, *above.shape[1:])
    pairs = torch.stack([above.reshape(shape), below.reshape(shape)], 1)
    return pairs.flatten(0, 2)


def _picture(distribution: Distribution) -> tuple[Tensor, str]:
    """Return images of a distribution and a name for them: the mean of every pixel, or a sample.

    The mean has no closed form where pixels depend on each other.
    """
    try:
        return distribution.mean, "the mean of each pixel"
    except NotImplementedError:
        return distribution.sample(), "a draw of all pixels"
