"""The number of bits a channel of an image file, and its reduction from 16 to 8."""

from typing import TYPE_CHECKING

import numpy as np

from experiments.data.image_options import ImageReading
from univae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["BITS", "bits_of", "reduced"]

BITS = 8  # of a channel
DEEP = 16
# Byte of a PNG that holds the bits of a channel: after the signature (8 bytes), the chunk's length
# and name (8), width and height (8).
DEPTH = 24
BITS_PER_SAMPLE = 258  # the TIFF tag
DEEP_GREY = "I;16"  # the beginning of Pillow's names of 16-bit grey
WIDE_GREY = "I"  # 32 bits, of which a PNG uses 16


def bits_of(image: "Image", content: bytes) -> int:
    """Return the bits of a channel in the file, before Pillow reduces or spreads them."""
    if image.format == "PNG":
        return content[DEPTH]
    if image.mode == "1":
        return 1
    if image.format == "TIFF":
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]
        return int(max(bits)) if max(bits) > BITS else BITS
    return BITS


def reduced(image: "Image", bits: int, source: str, reading: ImageReading) -> "Image":
    """Return an image of more than 8 bits a channel with the high 8 bits of each.

    Pillow itself drops the low bytes of colour, so grey images are reduced alike.

    Raises:
        InputError: ``--bits 8`` is not given, or the image has 32 bits or real numbers.
    """
    from PIL import Image

    # the one transparent value of such a file has 16 bits too
    is_known = bits == DEEP and image.mode != "F" and "transparency" not in image.info
    if reading.is_exact or not is_known:
        way_out = "convert it"
    else:
        way_out = "--bits 8 keeps the high 8 bits"
    if reading.is_exact or not is_known or not reading.bits:
        raise InputError(
            f"{source} must be grey or RGB of 8 bits; got {bits} bits a channel; {way_out}"
        )
    if image.mode.startswith((DEEP_GREY, WIDE_GREY)):
        high = (np.asarray(image).astype(np.int64) >> BITS).astype(np.uint8)
        grey = Image.fromarray(high)
        grey.info = dict(image.info)  # holds the EXIF orientation
        return grey
    return image
