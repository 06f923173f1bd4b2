"""What a GAN makes, shown: grids of the same latents at every validation, beside real data in the same layout."""

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.gans.run import GanRun
from experiments.gans.scaling import seen, shown
from experiments.reports.image_grid import COLUMNS, png, write_grid
from experiments.training.run_folder import Run

__all__ = ["fixed_latents", "strip", "write_samples"]

COUNT = 6 * COLUMNS


def fixed_latents(width: int, count: int = COUNT) -> Tensor:
    """The same latents for every run of this width, so that grids can be compared."""
    return torch.randn(
        count, width, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )


def write_samples(opened: GanRun, data: Data, rows: np.ndarray) -> None:
    """Write ``samples/*.png``: generated images, real ones, and a walk between two latents.

    Nothing for tables.
    """
    if len(data.shape) != 3:
        return
    latent = opened.players.generator.latent
    made = opened.sample(fixed_latents(latent))
    real = seen(data, np.random.default_rng(0).permutation(rows)[:COUNT])
    average = ", the moving average of its weights" if opened.has_average else ""
    classes = "; a column a class, in turn" if opened.classes else ""
    write_images(opened.run, "generated", f"Generated images{average}{classes}", made)
    write_images(opened.run, "real", "Real images", real)
    ends = fixed_latents(latent, 12)
    share = torch.linspace(0, 1, COLUMNS)[None, :, None]
    walk = _slerp(ends[:6, None], ends[6:, None], share).flatten(0, 1)
    same = torch.zeros(len(walk), dtype=torch.long) if opened.classes else None
    write_images(
        opened.run, "walk", "From one latent to another along the sphere", opened.sample(walk, same)
    )


def strip(opened: GanRun, count: int = COLUMNS) -> bytes | None:
    """A row of images as PNG, of the latents that every GAN of this width is shown with.

    ``None`` for tables.
    """
    if len(opened.players.generator.shape) != 3:
        return None
    return png(
        shown(opened.sample(fixed_latents(opened.players.generator.latent, count))), 256, count
    )


def write_images(run: Run, name: str, title: str, x: Tensor) -> None:
    """Write a grid of images in [-1, 1]."""
    write_grid(run, name, title, shown(x), 256)


def _slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    cosine = (a * b).sum(-1, keepdim=True) / (
        a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    )
    angle = cosine.clamp(-1, 1).arccos()
    return ((1 - share) * angle).sin() / angle.sin() * a + (share * angle).sin() / angle.sin() * b
