"""Digits drawn in the typefaces that matplotlib ships, each a little shifted, turned, sheared and scaled.

A data set that needs no download and has known classes. Three of its images as the channels of one
are a data set of 1,000 known modes: which of them a generator makes can be counted, by a classifier
of single digits.

The typefaces are DejaVu (a licence of its own, after Bitstream Vera's), STIX (its own, too) and
Computer Modern (as BaKoMa distributes it); all let their glyphs be drawn and shown. Only pictures
of them are made here.

References:
    VEEGAN (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761, whose count of modes stacks
    handwritten digits
"""

import functools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["FONTS", "MODES", "glyphs", "stacked"]

FONTS = (
    *(
        f"DejaVu{kind}{style}"
        for kind in ("Sans", "SansMono")
        for style in ("", "-Bold", "-Oblique", "-BoldOblique")
    ),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10", "cmmi10"),
)
MODES = 1000
# pixels of an image, and of the longer side of an unchanged digit
SIDE = 28
TALL = 20
# times as large a digit is drawn before it is changed, and twice as large changed before it is
# shrunk
DRAWN = 4
# most of a change: radians, a slope, pixels, of the logarithm of size
TURN = 0.2
SHEAR = 0.2
SHIFT = 2.0
SCALE = 0.15
CHUNK = 200  # images made at once


def glyphs(count: int = 22_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 1, 28, 28) of levels 0..255 and labels (count,), every font and digit equally often.

    The same arrays at every call with the same ``seed``, read-only. Datum i has font i modulo 22,
    and the digits of 22 data in a row are one: shuffle before taking a part.
    """
    return _glyphs(count, seed)


def stacked(count: int = 30_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 3, 28, 28) whose channels are glyphs drawn at random, and labels 100 a + 10 b + c.

    The same arrays at every call with the same ``seed``, read-only.
    """
    return _stacked(count, seed)


@functools.cache
def _glyphs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = _drawn()
    each = np.arange(count)
    fonts = each % len(FONTS)
    labels = each // len(FONTS) % 10
    theta = _changes(count, torch.Generator().manual_seed(seed))
    images = np.empty((count, 1, SIDE, SIDE), np.uint8)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        whole = torch.from_numpy(drawn[fonts[part], labels[part]])[:, None]
        grid = F.affine_grid(theta[part], [len(whole), 1, 2 * SIDE, 2 * SIDE], align_corners=False)
        small = F.avg_pool2d(F.grid_sample(whole, grid, align_corners=False), 2)
        images[part] = small.mul(255).round().clamp(0, 255).byte().numpy()
    return _fixed(images), _fixed(labels)


@functools.cache
def _stacked(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = glyphs(seed=seed)
    chosen = np.random.default_rng([seed, 1]).integers(len(images), size=(count, 3))
    return _fixed(images[chosen, 0]), _fixed(labels[chosen] @ np.array([100, 10, 1]))


def _drawn() -> np.ndarray:
    """Every digit in every font, as large and in the middle.

    (fonts, 10, height, width) in [0, 1].
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    side = DRAWN * SIDE
    pages = np.zeros((len(FONTS), 10, side, side), np.float32)
    for i, name in enumerate(FONTS):
        font = ImageFont.truetype(
            str(folder / f"{name}.ttf"), side, layout_engine=ImageFont.Layout.BASIC
        )
        for digit in range(10):
            left, top, right, bottom = font.getbbox(str(digit))
            large = Image.new("L", (round(right - left), round(bottom - top)))
            ImageDraw.Draw(large).text((-left, -top), str(digit), fill=255, font=font)
            zoom = DRAWN * TALL / max(large.size)
            width, height = (round(zoom * length) for length in large.size)
            y = (side - height) // 2
            x = (side - width) // 2
            shrunk = large.resize((width, height), Image.Resampling.LANCZOS)
            pages[i, digit, y : y + height, x : x + width] = np.asarray(shrunk, np.float32) / 255
    return pages


def _changes(count: int, generator: torch.Generator) -> Float[Tensor, "count 2 3"]:
    """Affine maps from places in the changed image to those in the drawn one, both in [-1, 1]."""

    def uniform(most: float) -> Tensor:
        return most * (2 * torch.rand(count, generator=generator, dtype=torch.float32) - 1)

    turn = uniform(TURN)
    shear = uniform(SHEAR)
    wide = uniform(SCALE).exp()
    high = uniform(SCALE).exp()
    cos = turn.cos()
    sin = turn.sin()
    rows = (wide * cos, wide * (shear * cos - sin), uniform(2 * SHIFT / SIDE))
    below = (high * sin, high * (shear * sin + cos), uniform(2 * SHIFT / SIDE))
    return torch.stack((torch.stack(rows, 1), torch.stack(below, 1)), 1)


def _fixed(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
