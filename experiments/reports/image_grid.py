"""Images side by side as one PNG, and as an item of a run's report."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from univae.checkpoint import replacing_file, write_json
from univae.run_folder import RunFolder

__all__ = ["COLUMNS", "SIDE", "grid", "png", "write_grid", "write_picture"]

COLUMNS = 16  # images in a row
SIDE = 40  # approximate width in pixels that small images are enlarged to
GREY = 0.5  # brightness of the frame around an image
WHITE = 255


def grid(images: Tensor, levels: int, columns: int = COLUMNS) -> np.ndarray:
    """Return images (N, C, H, W) of 0..levels-1 side by side, small ones enlarged.

    The result is (height, width, channels), uint8.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    padded = images.new_zeros(rows * columns, channels, height, width)
    padded[:count] = images

    zoom = max(1, round(SIDE / width))
    grey = (padded / (levels - 1)).clamp(0, 1)
    enlarged = grey.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    framed = torch.nn.functional.pad(enlarged, (1, 1, 1, 1), value=GREY)

    cells = framed.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2)
    picture = cells.flatten(2, 3).flatten(0, 1)
    return (WHITE * picture).round().byte().cpu().numpy()


def write_grid(
    run: RunFolder, name: str, title: str, images: Tensor, levels: int, columns: int = COLUMNS
) -> None:
    """Write a grid of images to ``samples/NAME.png``, and its item for the report."""
    folder = run.subfolder("samples")
    write_picture(folder / f"{name}.png", images, levels, columns)
    write_json(folder / f"{name}.json", {"kind": "images", "title": title, "file": f"{name}.png"})


def write_picture(path: Path, images: Tensor, levels: int, columns: int = COLUMNS) -> None:
    """Write a grid of images as PNG."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(png(images, levels, columns))


def png(images: Tensor, levels: int, columns: int = COLUMNS) -> bytes:
    """Return a grid of images as PNG."""
    picture = grid(images, levels, columns)
    if picture.shape[-1] == 1:
        picture = picture.squeeze(-1)
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
