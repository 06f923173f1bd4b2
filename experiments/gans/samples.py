"""Generated rows as files and image grids: of commands, and of a GAN's report."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.data.array_outputs import (
    IMAGES,
    TABLE,
    Contents,
    Part,
    result_in_run,
)
from experiments.data.arrays import Data
from experiments.data.outputs import Output
from experiments.gans.scaling import gan_rows, to_data_units, to_grey_levels
from experiments.reports.image_grid import COLUMNS, gif, png, write_grid
from experiments.training.task import reseed
from gan.networks.layers import is_image
from gan.trained import TrainedGan, slerp
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = [
    "animation_of",
    "batches",
    "between",
    "circle",
    "contents_of",
    "fixed_latents",
    "output_of",
    "seed_of",
    "slerp",
    "strip",
    "write_images",
    "write_samples",
]

ROWS = 6
COUNT = ROWS * COLUMNS
LEVELS = 256  # grey levels of a picture
BATCH = 256  # rows generated at once: bounds the memory
LARGEST_SEED = 2**63 - 1


def fixed_latents(width: int, count: int = COUNT) -> Tensor:
    """Return the same latents (count, width) in every run, so that grids can be compared."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, width, generator=generator, dtype=torch.float32)


def batches(run: TrainedGan, count: int) -> Iterator[Tensor]:
    """Generate ``count`` rows in the units of the networks, a batch at a time.

    They are of every class in turn.
    """
    for rows in torch.arange(count).split(BATCH):
        labels = rows % run.classes if run.classes else None
        yield run.draw(len(rows), labels)


def output_of(
    run: TrainedGan,
    data: Data,
    out: Path | None,
    name: str,
    *,
    overwrite: bool,
    images: Sequence[Part] = IMAGES,
) -> Output:
    """Return the output of generated rows of such data, by default ``samples/NAME.npz`` of the run.

    ``overwrite`` is whether an existing file at ``out``, the path of ``--out``, may be replaced;
    ``images`` are the parts of a result of images.
    """
    parts = images if data.is_images else TABLE
    return result_in_run(out, f"{name}.npz", parts, run.path, overwrite=overwrite)


def contents_of(
    data: Data, x: Tensor, labels: Tensor | None = None, columns: int = COLUMNS
) -> Contents:
    """Return generated rows, and their labels, as contents of a file in the units of ``data``.

    Args:
        data: kind and units of the rows.
        x: rows in the units of the networks.
        labels: the class of each row.
        columns: images side by side in the grid.
    """
    rows = to_data_units(x, data)
    arrays = {"images" if data.is_images else "x": rows}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    if data.is_images:
        return Contents(arrays=arrays, picture=png(to_grey_levels(x), LEVELS, columns))
    names: Sequence[str] = [f"c{i}" for i in range(rows.shape[1])]
    if data.columns is not None:
        names = data.columns.names
    named: dict[str, np.ndarray] = dict(zip(names, rows.T, strict=True))
    if labels is not None:
        named["label"] = arrays["labels"]
    return Contents(arrays=arrays, columns=named)


def seed_of(name: str, value: str) -> int:
    """Return the seed of a latent that an argument names.

    Raises:
        InputError: the argument is no whole number from 0.
    """
    if not value.isdecimal() or int(value) > LARGEST_SEED:
        raise InputError(
            f"{name} must be the seed of a latent of the GAN, 0..{LARGEST_SEED}; got {name}={value}"
        )
    return int(value)


def between(run: TrainedGan, start: int, end: int, steps: int) -> Tensor:
    """Return latents (steps, d) on the arc between those of two seeds, both included.

    They are the latents of ``univae sample --count 1`` with these seeds.
    """
    a, b = (_drawn(run, seed) for seed in (start, end))
    if start == end:
        return a.expand(steps, -1)
    return slerp(a, b, torch.linspace(0, 1, steps)[:, None])


def circle(run: TrainedGan, start: int, end: int, steps: int) -> Tensor:
    r"""Return latents (steps, d) on the circle through those of two seeds, from the first on.

    .. math:: z_i = \cos(\varphi_i) a + \sin(\varphi_i) b, \qquad \varphi_i = 2 \pi i / n

    Each is standard normal as the latents a and b are, because they are independent.

    Raises:
        InputError: the seeds are equal.
    """
    if start == end:
        raise InputError(f"end must be another seed than start for a circle; got end={end}")
    a, b = (_drawn(run, seed) for seed in (start, end))
    angles = 2 * torch.pi * torch.arange(steps)[:, None] / steps
    return angles.cos() * a + angles.sin() * b


def animation_of(x: Tensor) -> Contents:
    """Return generated images in [-1, 1] as the frames of an animation."""
    return Contents(animation=gif(to_grey_levels(x), LEVELS))


def _drawn(run: TrainedGan, seed: int) -> Tensor:
    """Return the latent (1, d) of ``univae sample --count 1`` with a seed."""
    reseed(seed, "sample")
    return torch.randn(1, run.latent_width)


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
