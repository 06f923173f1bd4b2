"""PNG files of a folder as level numbers of a model, and back."""

import numpy as np

from density.likelihoods.distributions import BINARY
from experiments.evaluation.file_codec import Part
from experiments.images.binarisation import WHITE
from experiments.images.png_parts import Picture, join_png, split_png

__all__ = ["join_picture", "split_picture"]

BIT = "bit"  # the fact of a part that its file has 1 bit a pixel


def split_picture(content: bytes, shape: tuple[int, ...], levels: int) -> Part | None:
    """Return the level numbers (1, *shape) of a PNG, and its other bytes.

    A picture of 1 bit a pixel has the lowest and the highest level. To a model of two levels, a
    picture of 8 bits must be black and white (0 and 255).

    None is returned for a file that is no such PNG, or has pixels beyond the levels of the model.
    """
    picture = split_png(content, shape)
    if picture is None:
        return None
    values = picture.pixels.astype(np.int64)[None]
    if picture.one_bit:
        return Part(values * (levels - 1), picture.frame, {BIT: 1})
    if levels == BINARY:
        is_black_or_white = bool(((values == 0) | (values == WHITE)).all())
        return Part(values // WHITE, picture.frame) if is_black_or_white else None
    return Part(values, picture.frame) if values.max() < levels else None


def join_picture(part: Part, levels: int) -> bytes:
    """Return a PNG of the part's pixels; raise ValueError where the part is damaged."""
    values = part.rows[0]
    one_bit = BIT in part.facts
    if one_bit:
        values = values // (levels - 1)
    elif levels == BINARY:
        values = values * WHITE
    return join_png(Picture(values.astype(np.uint8), one_bit, part.rest))
