"""Images side by side as one PNG, as an item of a run's report, or one after the other as a GIF."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from univae.checkpoint import JsonObject, replacing_file, write_json
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["COLUMNS", "SIDE", "gif", "grid", "png", "write_grid", "write_picture"]

COLUMNS = 16  # images in a row
SIDE = 40  # approximate width in pixels that small images are enlarged to
ANIMATED_SIDE = 160  # the same of an animation
FRAME_TIME = 100  # milliseconds
GREY = 0.5  # brightness of the frame around an image
WHITE = 255
RGB = 3


def grid(images: Tensor, levels: int, columns: int = COLUMNS, side: int = SIDE) -> np.ndarray:
    """Return images (N, C, H, W) of 0..levels-1 side by side, small ones enlarged to ``side``.

    The result is (height, width, channels), uint8.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    padded = images.new_zeros(rows * columns, channels, height, width)
    padded[:count] = images

    enlarged = _enlarged(padded, levels, side)
    framed = torch.nn.functional.pad(enlarged, (1, 1, 1, 1), value=GREY)

    cells = framed.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2)
    picture = cells.flatten(2, 3).flatten(0, 1)
    return (WHITE * picture).round().byte().cpu().numpy()


def write_grid(
    run: RunFolder,
    name: str,
    title: str,
    images: Tensor,
    levels: int,
    columns: int = COLUMNS,
    row_labels: Sequence[str] = (),
) -> None:
    """Write a grid of images to ``samples/NAME.png``, and its item for the report.

    ``row_labels`` stand beside the rows of the grid, from the first again where there are fewer.
    """
    folder = run.subfolder("samples")
    write_picture(folder / f"{name}.png", images, levels, columns)
    item: JsonObject = {"kind": "images", "title": title, "file": f"{name}.png"}
    if row_labels:
        rows = -(-len(images) // columns)
        item["row_labels"] = [row_labels[row % len(row_labels)] for row in range(rows)]
    write_json(folder / f"{name}.json", item)


def write_picture(path: Path, images: Tensor, levels: int, columns: int = COLUMNS) -> None:
    """Write a grid of images as PNG."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(png(images, levels, columns))


def png(images: Tensor, levels: int, columns: int = COLUMNS, side: int = SIDE) -> bytes:
    """Return a grid of images as PNG; see :func:`grid`."""
    picture = grid(images, levels, columns, side)
    if picture.shape[-1] == 1:
        picture = picture.squeeze(-1)
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def gif(images: Tensor, levels: int) -> bytes:
    """Return images (N, C, H, W) of 0..levels-1 as an animation that repeats, small ones enlarged.

    Raises:
        InputError: the images have neither one nor three channels.
    """
    if images.shape[1] not in (1, RGB):
        raise InputError(
            f"an animation takes images of 1 or 3 channels; these have {images.shape[1]}; "
            "give --out another suffix"
        )
    frames = []
    for image in _enlarged(images, levels, ANIMATED_SIDE):
        pixels = (WHITE * image).round().byte().cpu().movedim(0, -1).numpy()
        frames.append(Image.fromarray(pixels.squeeze(-1) if len(image) == 1 else pixels))
    buffer = BytesIO()
    first, *others = frames
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=FRAME_TIME, loop=0, disposal=2
    )
    return buffer.getvalue()


def _enlarged(images: Tensor, levels: int, side: int) -> Tensor:
    """Return images of 0..1, whose pixels are repeated until they are about ``side`` wide."""
    zoom = max(1, round(side / images.shape[-1]))
    grey = (images / (levels - 1)).clamp(0, 1)
    return grey.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
