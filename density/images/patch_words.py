r"""Patches of pixels as words, so that images are texts of a fixed length, in raster order.

A patch of h x w pixels of L levels and c channels is one of :math:`L^{h w c}` words, its first
pixel the lowest digit. A patch of one pixel is a word per channel instead, so that the vocabulary
of images of many levels stays small.
"""

import math

import torch
from jaxtyping import Int
from torch import Size, Tensor, nn

from density.likelihoods.head import Pixels
from density.likelihoods.laws import LAWS
from density.likelihoods.values import check_levels
from univae.errors import InputError
from univae.image_shapes import image_shape
from univae.text.special import RESERVED

__all__ = ["MOST_WORDS", "PatchWords", "word_count"]

# In a larger vocabulary most words would hardly occur in any data.
MOST_WORDS = 65_536


def word_count(pixels: Pixels, patch: tuple[int, int]) -> int:
    """Return the number of words for patches of so many rows and columns."""
    channels, *_ = image_shape(pixels.shape, "PatchVAE")
    area = math.prod(patch)
    digits = area * channels if area > 1 else 1
    return int(pixels.levels**digits)


class PatchWords(nn.Module):
    """Converts images (\\*lead, channels, height, width) to ids (\\*lead, cells) and back.

    The ids start after those that texts reserve.

    Args:
        pixels: shape and levels of the images.
        patch: rows and columns of a patch.

    Raises:
        InputError: the patch does not divide the image, there are too many words, or the law of
            the pixels is not saturated.
    """

    digits: Tensor

    def __init__(self, pixels: Pixels, patch: tuple[int, int]) -> None:
        super().__init__()
        self.pixels = pixels
        self.patch = patch
        channels, height, width = image_shape(pixels.shape, "PatchVAE")
        _require_saturated(pixels)
        rows, columns = patch
        if min(patch) < 1 or height % rows or width % columns:
            raise InputError(
                f"PatchVAE: a patch must divide the image; got patch={rows}x{columns}, "
                f"{height}x{width} pixels"
            )
        self.word_count = word_count(pixels, patch)
        if self.word_count > MOST_WORDS:
            raise InputError(
                f"PatchVAE: there must be at most {MOST_WORDS} words; got {self.word_count} of "
                f"{rows}x{columns} pixels, {channels} channels and {pixels.levels} levels; "
                "choose patch=1, a word per pixel and channel, or binarise"
            )
        self.words_per_patch = channels if math.prod(patch) == 1 else 1
        self.grid = (height // rows, width // columns * self.words_per_patch)
        digits = math.prod(patch) * channels // self.words_per_patch
        self.register_buffer("digits", pixels.levels ** torch.arange(digits), persistent=False)

    @property
    def cells(self) -> int:
        """The number of words of an image."""
        return math.prod(self.grid)

    def to_ids(self, x: Tensor) -> Int[Tensor, "*lead cells"]:
        r"""Return the ids of images (\*lead, channels, height, width).

        Raises:
            InputError: the images have another shape, or a value is not a level.
        """
        check_levels("PatchVAE", x, Size(self.pixels.shape), self.pixels.levels)
        rows, columns = self.patch
        # (channels, grid rows, rows, grid columns, columns)
        tiles = _split(_split(x.long(), -1, columns), -3, rows)
        tiles = tiles.movedim((-4, -2), (-5, -4))  # grid rows and columns first
        values = tiles.reshape(*tiles.shape[:-3], self.words_per_patch, len(self.digits))
        return (values.flatten(-4, -2) * self.digits).sum(-1) + RESERVED

    def to_images(self, ids: Int[Tensor, "*lead cells"]) -> Tensor:
        """Return the images of ids, levels as floats of the default dtype."""
        values = ((ids - RESERVED).unsqueeze(-1) // self.digits) % self.pixels.levels
        grid_columns = self.grid[1] // self.words_per_patch
        tiles = values.reshape(*ids.shape[:-1], self.grid[0], grid_columns, -1, *self.patch)
        tiles = tiles.movedim((-5, -4), (-4, -2))
        return tiles.flatten(-2).flatten(-3, -2).to(torch.get_default_dtype())


def _split(x: Tensor, axis: int, size: int) -> Tensor:
    """Return an axis as two, the second of ``size``."""
    halves: Tensor = x.unflatten(axis, (-1, size))
    return halves


def _require_saturated(pixels: Pixels) -> None:
    if pixels.law.saturated:
        return
    names = " or ".join(name for name, law in LAWS.items() if law.saturated)
    raise InputError(
        f"PatchVAE: likelihood must be {names}; got {pixels.likelihood}; "
        "choose one of these, with data of whole levels"
    )
