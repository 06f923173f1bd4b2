"""What an image model can do, shown: grids of draws from the prior and of reconstructions, for the report."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Distribution

from experiments.image_run import ImageRun
from experiments.measure import codes
from experiments.run import Run
from experiments.task import reseed
from univae.checkpoint import replacing_file, write_json

__all__ = ["grid", "png", "write_grid", "write_picture", "write_samples"]

COLUMNS, SIDE = 16, 40  # pictures in a row, and the least width of one on the page


def grid(images: Tensor, levels: int, columns: int = COLUMNS) -> np.ndarray:
    """Pictures (N, C, H, W) of 0..levels-1 side by side, as bytes (height, width, channels); small ones enlarged."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    padded = images.new_zeros(rows * columns, channels, height, width)
    padded[:count] = images
    zoom = max(1, round(SIDE / width))
    cells = (padded / (levels - 1)).clamp(0, 1).repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    cells = torch.nn.functional.pad(cells, (1, 1, 1, 1), value=0.5)
    page = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return (255 * page).round().byte().cpu().numpy()


@torch.no_grad()
def write_samples(run: ImageRun, held_out: Tensor, count: int = 2 * COLUMNS) -> dict[str, Any]:
    """Writes ``samples/*.png`` with a description each; nothing for tables."""
    pixels = run.model.output.pixels
    if len(pixels.shape) != 3:
        return {}
    reseed(run.run.config["seed"], "showcase")
    columns = min(COLUMNS, len(held_out))
    x = held_out[: min(count, len(held_out)) // columns * columns].to(run.device)
    drawn, what = _picture(run.model.likelihood(run.model.prior().sample(torch.Size((count,)))))
    again, _ = _picture(run.model.likelihood(codes(run.model, x)))
    pairs = torch.stack([rows.unflatten(0, (-1, columns)) for rows in (x, again)], 1).flatten(0, 2)
    shown = {
        "prior": (f"Draws from the prior: {what}", drawn),
        "reconstructions": (f"Held-out data, and below each row its reconstructions: {what}", pairs),
    }
    for name, (title, images) in shown.items():
        write_grid(run.run, name, title, images, pixels.levels, columns)
    return {name: title for name, (title, _) in shown.items()}


def _picture(law: Distribution) -> tuple[Tensor, str]:
    """The mean of every pixel; of a law whose pixels depend on each other, which has no cheap one, a draw."""
    try:
        return law.mean, "the mean of each pixel"
    except NotImplementedError:
        return law.sample(), "a draw of all pixels"


def write_grid(run: Run, name: str, title: str, images: Tensor, levels: int, columns: int = COLUMNS) -> None:
    """Writes a grid of pictures into ``samples/`` with the description that the report looks for."""
    folder = run.subfolder("samples")
    write_picture(folder / f"{name}.png", images, levels, columns)
    write_json(folder / f"{name}.json", {"kind": "images", "title": title, "file": f"{name}.png"})


def write_picture(path: Path, images: Tensor, levels: int, columns: int = COLUMNS) -> None:
    """Writes a grid of pictures as PNG."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(png(images, levels, columns))


def png(images: Tensor, levels: int, columns: int = COLUMNS) -> bytes:
    """A grid of pictures as PNG."""
    picture, buffer = grid(images, levels, columns), BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(buffer, format="PNG")
    return buffer.getvalue()
