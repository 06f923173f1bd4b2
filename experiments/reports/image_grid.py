"""Images side by side as one PNG."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from univae.checkpoint import replacing_file, write_json
from univae.run_folder import RunFolder

__all__ = ["COLUMNS", "SIDE", "grid", "png", "write_grid", "write_picture"]


# pictures in a row, and the least width of one on the page
COLUMNS = 16
SIDE = 40


def grid(images: Tensor, levels: int, columns: int = COLUMNS) -> np.ndarray:
    """Pictures (N, C, H, W) of 0..levels-1 side by side, as bytes (height, width, channels).

    Small ones enlarged.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    padded = images.new_zeros(rows * columns, channels, height, width)
    padded[:count] = images
    zoom = max(1, round(SIDE / width))
    cells = (
        (padded / (levels - 1)).clamp(0, 1).repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    )
    cells = torch.nn.functional.pad(cells, (1, 1, 1, 1), value=0.5)
    page = cells.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return (255 * page).round().byte().cpu().numpy()


def write_grid(
    run: RunFolder, name: str, title: str, images: Tensor, levels: int, columns: int = COLUMNS
) -> None:
    """Write a grid of pictures into ``samples/`` with the description that the report looks for."""
    folder = run.subfolder("samples")
    write_picture(folder / f"{name}.png", images, levels, columns)
    write_json(folder / f"{name}.json", {"kind": "images", "title": title, "file": f"{name}.png"})


def write_picture(path: Path, images: Tensor, levels: int, columns: int = COLUMNS) -> None:
    """Write a grid of pictures as PNG."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(png(images, levels, columns))


def png(images: Tensor, levels: int, columns: int = COLUMNS) -> bytes:
    """A grid of pictures as PNG."""
    picture = grid(images, levels, columns)
    buffer = BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
        buffer, format="PNG"
    )
    return buffer.getvalue()
