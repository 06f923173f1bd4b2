"""Sample grids of an image VAE for the report: prior draws and reconstructions."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from density.trained import TrainedDensity
from experiments.evaluation.latent_model import codes
from experiments.reports.image_grid import COLUMNS, write_grid
from experiments.training.task import reseed

__all__ = ["write_samples"]


@torch.no_grad()
def write_samples(
    run: TrainedDensity, held_out: Tensor, count: int = 2 * COLUMNS
) -> dict[str, Any]:
    """Write ``samples/*.png`` with a description each; nothing for tables."""
    pixels = run.model.output.pixels
    if len(pixels.shape) != 3:
        return {}
    reseed(run.config["seed"], "showcase")
    columns = min(COLUMNS, len(held_out))
    x = held_out[: min(count, len(held_out)) // columns * columns].to(run.device)
    drawn, what = _picture(run.model.likelihood(run.model.prior().sample(torch.Size((count,)))))
    again, _ = _picture(run.model.likelihood(codes(run.model, x)))
    pairs = torch.stack([rows.unflatten(0, (-1, columns)) for rows in (x, again)], 1).flatten(0, 2)
    shown = {
        "prior": (f"Draws from the prior: {what}", drawn),
        "reconstructions": (
            f"Held-out data, and below each row its reconstructions: {what}",
            pairs,
        ),
    }
    for name, (title, images) in shown.items():
        write_grid(run.folder, name, title, images, pixels.levels, columns)
    return {name: title for name, (title, _) in shown.items()}


def _picture(law: Distribution) -> tuple[Tensor, str]:
    """The mean of every pixel.

    Of a law whose pixels depend on each other, which has no cheap one, a draw.
    """
    try:
        return law.mean, "the mean of each pixel"
    except NotImplementedError:
        return law.sample(), "a draw of all pixels"
