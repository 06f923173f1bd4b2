"""Image grids of a GAN's report: generated and real images, and a walk between latents."""

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import Data
from experiments.gans.scaling import gan_rows, to_grey_levels
from experiments.reports.image_grid import COLUMNS, png, write_grid
from gan.networks.layers import is_image
from gan.trained import TrainedGan, slerp
from univae.run_folder import RunFolder

__all__ = ["fixed_latents", "strip", "write_images", "write_samples"]

ROWS = 6
COUNT = ROWS * COLUMNS
LEVELS = 256  # grey levels of a picture


def fixed_latents(width: int, count: int = COUNT) -> Tensor:
    """Return the same latents (count, width) in every run, so that grids can be compared."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, width, generator=generator, dtype=torch.float32)


def write_samples(run: TrainedGan, data: Data, rows: np.ndarray) -> None:
    """Write ``samples/*.png``: generated images, real ones of ``rows``, and a walk between latents.

    Nothing is written for tables.
    """
    if not data.is_images:
        return
    images = run.generate(fixed_latents(run.latent_width))
    real = gan_rows(data, np.random.default_rng(0).permutation(rows)[:COUNT])
    average = ", the moving average of its weights" if run.has_average else ""
    classes = "; a column a class, in turn" if run.classes else ""
    write_images(run.folder, "generated", f"Generated images{average}{classes}", images)
    write_images(run.folder, "real", "Real images", real)

    walk = _walks(run.latent_width)
    labels = torch.zeros(len(walk), dtype=torch.long) if run.classes else None
    title = "From one latent to another along the sphere"
    write_images(run.folder, "walk", title, run.generate(walk, labels))


def strip(run: TrainedGan, count: int = COLUMNS) -> bytes | None:
    """Return a row of images as PNG, of the latents of :func:`fixed_latents`; None for tables."""
    if not is_image(run.players.generator.shape):
        return None
    images = run.generate(fixed_latents(run.latent_width, count))
    return png(to_grey_levels(images), LEVELS, count)


def write_images(folder: RunFolder, name: str, title: str, x: Tensor) -> None:
    """Write a grid of images in [-1, 1] as ``samples/NAME.png`` of a run."""
    write_grid(folder, name, title, to_grey_levels(x), LEVELS)


def _walks(width: int) -> Tensor:
    """Return latents (COUNT, width): in each row of the grid the way from one to another."""
    ends = fixed_latents(width, 2 * ROWS)
    t = torch.linspace(0, 1, COLUMNS)[None, :, None]
    return slerp(ends[:ROWS, None], ends[ROWS:, None], t).flatten(0, 1)
