"""Decode one PNG or JPEG file to an array of 8 bits a channel, and count assumptions.

Images that 8 bits cannot represent are refused: more than 8 bits, transparency, animations.
"""

from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from univae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MULTIPLE", "ONE_BIT", "PALETTE", "ROTATED", "SCALED", "decode"]

# Assumptions that are counted, in the words of the notes.
ROTATED = "turned as their EXIF orientation says"
PALETTE = "of a palette, read as red, green and blue"
SCALED = "of 2 or 4 bits a pixel, spread to 0..255"
ONE_BIT = "of 1 bit a pixel"
MULTIPLE = "in files of several pictures, of which the first is read"

MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # Pillow's names of 8 bits a channel or fewer
GREY_MODES = ("1", "L", "LA")
PALETTE_MODE = "P"
PNG = "PNG"
BITS = 8  # of a channel
OPAQUE = (255, 255)  # least and largest alpha
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
ROTATIONS = range(2, 9)
# Byte of a PNG that holds the bits of a channel: after the signature (8 bytes), the chunk's length
# and name (8), width and height (8).
DEPTH = 24


def decode(content: bytes, source: str, remarks: Counter[str]) -> np.ndarray:
    """Return an opaque image of 8 bits a channel as (1 or 3, height, width), uint8.

    Args:
        content: the bytes of the file.
        source: the file, for messages.
        remarks: counts assumptions, under the constants of this module.

    Raises:
        InputError: the bytes are no PNG or JPEG, or would lose information in 8 bits.
    """
    image, frames = _opened(content, source)
    bits = content[DEPTH] if image.format == PNG else BITS
    _require_lossless(image, bits, frames, source)
    array = np.asarray(_upright(image, remarks))
    if frames > 1:
        remarks[MULTIPLE] += 1
    if image.mode == PALETTE_MODE:
        remarks[PALETTE] += 1
    elif bits < BITS:
        remarks[ONE_BIT if bits == 1 else SCALED] += 1

    return np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)


def _opened(content: bytes, source: str) -> tuple["Image", int]:
    """Return the first picture of a file, and the number of its pictures."""
    from PIL import Image

    try:
        with Image.open(BytesIO(content), formats=(PNG, "JPEG")) as image:
            frames = getattr(image, "n_frames", 1)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{source} is no PNG or JPEG image; convert or remove it") from error
    return image, frames


def _require_lossless(image: "Image", bits: int, frames: int, source: str) -> None:
    """Raise :class:`InputError` for an image that 8 opaque bits a channel do not represent."""
    if image.mode not in MODES:
        raise InputError(
            f"{source} must be grey or RGB of 8 bits; got mode {image.mode}; convert it"
        )
    # Pillow drops the low bytes of 16-bit colour and alpha, and reports the mode RGB or RGBA.
    if bits > BITS:
        raise InputError(
            f"{source} must be grey or RGB of 8 bits; got {bits} bits a channel; convert it"
        )
    if frames > 1 and image.format == PNG:
        raise InputError(f"{source} is an animation of {frames} frames; save one frame as an image")
    if image.convert("RGBA").getchannel("A").getextrema() != OPAQUE:
        raise InputError(
            f"{source} must be opaque; got transparent pixels; flatten it onto a background"
        )


def _upright(image: "Image", remarks: Counter[str]) -> "Image":
    """Return a grey or RGB image, rotated or mirrored as its EXIF orientation says."""
    from PIL import ImageOps

    plain = image.convert("L" if image.mode in GREY_MODES else "RGB")
    if image.getexif().get(ORIENTATION, 1) in ROTATIONS:
        remarks[ROTATED] += 1
        plain = ImageOps.exif_transpose(plain)
    return plain
