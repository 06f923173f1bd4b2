"""Image grids of a GAN: generated from the same latents for every run, and real ones."""

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.gans.run import GanRun
from experiments.gans.scaling import gan_rows, to_grey_levels
from experiments.reports.image_grid import COLUMNS, png, write_grid
from experiments.training.run_folder import Run
from gan.networks.layers import is_image

__all__ = ["fixed_latents", "strip", "write_images", "write_samples"]

ROWS = 6  # of a grid
COUNT = ROWS * COLUMNS  # images in a grid
GREY_LEVELS = 256


def fixed_latents(width: int, count: int = COUNT) -> Tensor:
    """Return latents (count, width), the same for every run, so that grids can be compared."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, width, generator=generator, dtype=torch.float32)


def write_samples(opened: GanRun, data: Data, rows: np.ndarray) -> None:
    """Write ``samples/*.png``: generated images, real images, and walks between two latents.

    Tables have no files. ``rows`` are the indices of the training images.
    """
    if not data.is_images:
        return
    latent = opened.players.generator.latent
    average = ", the moving average of its weights" if opened.has_average else ""
    classes = "; one class per column" if opened.classes else ""
    generated = opened.sample(fixed_latents(latent))
    write_images(opened.run, "generated", f"Generated images{average}{classes}", generated)
    real = gan_rows(data, np.random.default_rng(0).permutation(rows)[:COUNT])
    write_images(opened.run, "real", "Real images", real)

    walk = _walks(latent)
    first_class = torch.zeros(len(walk), dtype=torch.long) if opened.classes else None
    walked = opened.sample(walk, first_class)
    write_images(opened.run, "walk", "From one latent to another along the sphere", walked)


def strip(opened: GanRun, count: int = COLUMNS) -> bytes | None:
    """Return a row of images as PNG, of the same latents for every run; None for a table."""
    generator = opened.players.generator
    if not is_image(generator.shape):
        return None
    images = opened.sample(fixed_latents(generator.latent, count))
    return png(to_grey_levels(images), GREY_LEVELS, count)


def write_images(run: Run, name: str, title: str, x: Tensor) -> None:
    """Write a grid of images (N, channels, height, width) in [-1, 1] to ``samples/NAME.png``."""
    write_grid(run, name, title, to_grey_levels(x), GREY_LEVELS)


def _walks(latent: int) -> Tensor:
    """Return latents (COUNT, latent): each row of the grid goes from one latent to another."""
    ends = fixed_latents(latent, 2 * ROWS)
    fraction = torch.linspace(0, 1, COLUMNS)[None, :, None]
    return _slerp(ends[:ROWS, None], ends[ROWS:, None], fraction).flatten(0, 1)


def _slerp(a: Tensor, b: Tensor, fraction: Tensor) -> Tensor:
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    cosine = (a * b).sum(-1, keepdim=True) / lengths
    angle = cosine.clamp(-1, 1).arccos()
    weight_a = ((1 - fraction) * angle).sin() / angle.sin()
    weight_b = (fraction * angle).sin() / angle.sin()
    latent: Tensor = weight_a * a + weight_b * b
    return latent
