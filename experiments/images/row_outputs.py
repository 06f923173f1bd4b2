"""Files and pictures of the images and rows that commands return, in the units of the data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from density.trained import TrainedDensity
from experiments.data.array_outputs import (
    IMAGES,
    TABLE,
    Contents,
    Part,
    result_in_run,
)
from experiments.data.outputs import Output
from experiments.reports.image_grid import COLUMNS, SIDE, gif, png

__all__ = ["animation_of", "contents_of", "output_of", "pairs_picture", "picture"]

LEVELS = 256  # grey levels of a picture of real numbers


def output_of(
    run: TrainedDensity,
    out: Path | None,
    name: str,
    data: str = "",
    *,
    overwrite: bool,
    images: Sequence[Part] = IMAGES,
) -> Output:
    """Return the output of images or rows, by default ``samples/NAME`` in the run.

    Args:
        run: the run.
        out: ``--out``.
        name: the default name, without a suffix: .npz for images, .csv for rows.
        data: what the command reads besides the run.
        overwrite: whether an existing file at ``out`` may be replaced.
        images: the parts of a result of images.
    """
    suffix, parts = (".npz", images) if run.units.is_images else (".csv", TABLE)
    return result_in_run(out, name + suffix, parts, run.path, (data,), overwrite=overwrite)


def contents_of(run: TrainedDensity, rows: np.ndarray, columns: int = COLUMNS) -> Contents:
    r"""Return rows (N, \*shape) as contents of a file: a table's columns, or images in a grid."""
    if not run.units.is_images:
        return Contents(arrays={"x": rows}, columns=run.by_column(rows))
    return Contents(arrays={"images": rows}, picture=picture(run, rows, columns))


def picture(
    run: TrainedDensity, images: np.ndarray, columns: int = COLUMNS, side: int = SIDE
) -> bytes:
    """Return images as a grid, PNG; real numbers from the lowest, black, to the highest.

    Small images are enlarged to about ``side`` pixels.
    """
    grey, levels = _grey_levels(run, images)
    return png(grey, levels, columns, side)


def animation_of(run: TrainedDensity, images: np.ndarray) -> Contents:
    """Return images as an animation that shows them one after the other, there and back."""
    grey, levels = _grey_levels(run, images)
    return Contents(animation=gif(torch.cat((grey, grey[1:-1].flip(0))), levels))


def _grey_levels(run: TrainedDensity, images: np.ndarray) -> tuple[torch.Tensor, int]:
    """Return images of grey levels, and their number."""
    levels = run.units.levels
    if levels is None:
        low = images.min()
        span = max(float(images.max() - low), np.finfo(np.float64).tiny)
        images = (images - low) / span * (LEVELS - 1)
        levels = LEVELS
    return torch.from_numpy(images.astype(np.float32)), levels


def pairs_picture(
    run: TrainedDensity,
    above: np.ndarray,
    below: np.ndarray,
    most_columns: int = COLUMNS,
    side: int = SIDE,
) -> bytes:
    """Return a grid of images with, below each row of ``above``, that of ``below``."""
    columns = min(most_columns, len(above))
    missing = -len(above) % columns
    shape = (-1, columns, *above.shape[1:])
    rows = []
    for images in (above, below):
        blank = np.full((missing, *images.shape[1:]), images.min(), images.dtype)
        rows.append(np.concatenate((images, blank)).reshape(shape))
    pairs = np.stack(rows, 1)
    return picture(run, pairs.reshape(-1, *above.shape[1:]), columns, side)
