"""Digits in the typefaces that matplotlib ships, each randomly shifted, rotated, sheared, scaled.

A data set that needs no download and has known classes. Three of its images as the channels of one
are a data set of 1,000 known modes: a classifier of single digits counts which of them a generator
produces.

The typefaces are DejaVu (a licence of its own, after Bitstream Vera's), STIX (its own, too) and
Computer Modern (as BaKoMa distributes it); all permit drawing and showing their glyphs. This module
draws images of them and copies no font.

References:
    VEEGAN (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761, whose count of modes stacks
    handwritten digits
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

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
DIGITS = 10
MODES = DIGITS**3
SIDE = 28  # pixels of an image
TALL = 20  # pixels of the longer side of a digit before the random map
# Digits are drawn at 4 times their size, mapped at twice their size and then averaged over 2x2
# pixels, which anti-aliases the edges.
DRAWN = 4
MAPPED = 2
# Bounds of the uniform random map: radians, a slope, pixels, and the logarithm of the size.
TURN = 0.2
SHEAR = 0.2
SHIFT = 2.0
SCALE = 0.15
CHUNK = 200  # images mapped at once
WHITE = 255


def glyphs(count: int = 22_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 1, 28, 28) of levels 0..255 and labels (count,), classes balanced.

    The same read-only arrays at every call with the same ``seed``. Image i has font i modulo 22,
    and 22 consecutive images show one digit: shuffle before taking a subset.
    """
    return _glyphs(count, seed)


def stacked(count: int = 30_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 3, 28, 28) of random glyphs a, b, c and labels 100 a + 10 b + c.

    The same read-only arrays at every call with the same ``seed``.
    """
    return _stacked(count, seed)


@functools.cache
def _glyphs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    masters = _masters()
    index = np.arange(count)
    fonts = index % len(FONTS)
    labels = index // len(FONTS) % DIGITS
    theta = _affine_maps(count, torch.Generator().manual_seed(seed))

    images = np.empty((count, 1, SIDE, SIDE), np.uint8)
    for start in range(0, count, CHUNK):
        rows = slice(start, start + CHUNK)
        large = torch.from_numpy(masters[fonts[rows], labels[rows]])[:, None]
        size = [len(large), 1, MAPPED * SIDE, MAPPED * SIDE]
        grid = F.affine_grid(theta[rows], size, align_corners=False)
        mapped = F.grid_sample(large, grid, align_corners=False)
        small = F.avg_pool2d(mapped, MAPPED)
        images[rows] = small.mul(WHITE).round().clamp(0, WHITE).byte().numpy()

    return _read_only(images), _read_only(labels)


@functools.cache
def _stacked(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = glyphs(seed=seed)
    chosen = np.random.default_rng([seed, 1]).integers(len(images), size=(count, 3))
    place_values = np.array([100, 10, 1])
    return _read_only(images[chosen, 0]), _read_only(labels[chosen] @ place_values)


def _masters() -> np.ndarray:
    """Return every digit in every font, equally large and centred.

    (fonts, 10, height, width) in [0, 1].
    """
    from PIL import ImageFont

    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            "glyphs needs the typefaces of matplotlib, the extra glyphs: "
            "pip install 'univae[glyphs]'"
        ) from error

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    side = DRAWN * SIDE
    masters = np.zeros((len(FONTS), DIGITS, side, side), np.float32)
    for row, name in enumerate(FONTS):
        if not (folder / f"{name}.ttf").is_file():
            raise InputError(
                f"glyphs: matplotlib {matplotlib.__version__} has no typeface {name}; "
                "install matplotlib 3.11 or newer, which needs Python 3.11"
            )
        font = ImageFont.truetype(
            str(folder / f"{name}.ttf"), side, layout_engine=ImageFont.Layout.BASIC
        )
        for digit in range(DIGITS):
            image = _digit(digit, font)
            width, height = image.size
            y = (side - height) // 2
            x = (side - width) // 2
            pixels = np.asarray(image, np.float32) / WHITE
            masters[row, digit, y : y + height, x : x + width] = pixels
    return masters


def _digit(digit: int, font: "FreeTypeFont") -> "Image":
    """Return a digit cut to its bounding box, whose longer side has DRAWN * TALL pixels."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(str(digit))
    drawn = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(drawn).text((-left, -top), str(digit), fill=WHITE, font=font)

    zoom = DRAWN * TALL / max(drawn.size)
    width, height = (round(zoom * length) for length in drawn.size)
    return drawn.resize((width, height), Image.Resampling.LANCZOS)


def _affine_maps(count: int, generator: torch.Generator) -> Float[Tensor, "count 2 3"]:
    """Draw affine maps from positions in the result to those in the master, both in [-1, 1]."""

    def uniform(bound: float) -> Tensor:
        return bound * (2 * torch.rand(count, generator=generator, dtype=torch.float32) - 1)

    turn = uniform(TURN)
    shear = uniform(SHEAR)
    width = uniform(SCALE).exp()
    height = uniform(SCALE).exp()
    cos = turn.cos()
    sin = turn.sin()
    upper = (width * cos, width * (shear * cos - sin), uniform(2 * SHIFT / SIDE))
    lower = (height * sin, height * (shear * sin + cos), uniform(2 * SHIFT / SIDE))
    return torch.stack((torch.stack(upper, 1), torch.stack(lower, 1)), 1)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
