"""Decode one image file to an array of 8 bits a channel, and say what was assumed."""

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.data.image_depth import BITS, bits_of, reduced
from experiments.data.image_headers import (
    DAMAGE,
    GREY_MODES,
    damaged,
    has_alpha,
    has_other_profile,
    is_grey,
    opened,
    orientation,
    too_large,
)
from experiments.data.image_options import ImageReading
from experiments.data.image_resizing import RESIZES
from univae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ONE_BIT", "Decoded", "Layout", "decode"]

# Remarks on an image, in the words of the notes.
ROTATED = "turned as their EXIF orientation says"
PALETTE = "of a palette, read as red, green and blue"
SCALED = "of 2 or 4 bits a pixel, spread to 0..255"
ONE_BIT = "of 1 bit a pixel"
REDUCED = "of 16 bits a channel, of which the high 8 are kept"
MULTIPLE = "in files of several pictures, of which the first is read"
OPAQUE = "with an alpha channel that is opaque, left out"
NO_ALPHA = "without alpha, read as opaque"
PRINTED = "of the colours of print (CMYK), converted to red, green and blue"
PROFILE = "with a colour profile other than sRGB, which is ignored"
GREY = "grey, read as colour"
COLOUR = "of colour, read as grey"
ENLARGED = "enlarged to --size"

PALETTE_MODES = ("P", "PA")
PRINT_MODE = "CMYK"
MODES = (*GREY_MODES, *PALETTE_MODES, "RGB", "RGBA", PRINT_MODE)
ROTATIONS = range(2, 9)
OPAQUE_RANGE = (255, 255)  # least and largest alpha
# Pixels from which a JPEG that is to be resized is decoded at a half, a quarter or an eighth of its
# size, at least SPARE times the size asked for.
REDUCED_FROM = 2**26
SPARE = 2


class Layout(NamedTuple):
    """What every image of a data set is decoded to."""

    height: int
    width: int
    is_colour: bool
    has_alpha: bool

    @property
    def mode(self) -> str:
        """Pillow's name of the channels."""
        colour = "RGB" if self.is_colour else "L"
        return f"{colour}A" if self.has_alpha else colour

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return len(self.mode), self.height, self.width


class Decoded(NamedTuple):
    """An image, and the remarks on it."""

    values: np.ndarray  # (channels, height, width), uint8
    remarks: list[str]


def decode(content: bytes, source: str, layout: Layout, reading: ImageReading) -> Decoded:
    """Return the image of a file, in the layout of its data set.

    Args:
        content: the bytes of the file.
        source: the file, for messages.
        layout: the size and channels of the result.
        reading: the options of the conversion.

    Raises:
        DamagedImage: Pillow cannot read the file.
        InputError: the image loses information that ``reading`` does not give up.
    """
    remarks: list[str] = []
    image = _loaded(content, source, reading, remarks)
    plain = _in_layout(image, source, layout, reading, remarks)
    if plain.size != (layout.width, layout.height):
        plain = _resized(plain, source, layout, reading, remarks)
    array = np.asarray(plain).reshape(layout.height, layout.width, -1)
    return Decoded(np.moveaxis(array, -1, 0), remarks)


def _loaded(content: bytes, source: str, reading: ImageReading, remarks: list[str]) -> "Image":
    """Return the first picture of a file upright, in a mode of :data:`MODES`."""
    from PIL import ImageOps

    image = _first_picture(content, source, reading, remarks)
    if has_other_profile(image):
        remarks.append(PROFILE)
    bits = bits_of(image, content)
    if bits > BITS:
        image = reduced(image, bits, source, reading)
        remarks.append(REDUCED)
    elif bits < BITS and image.mode not in PALETTE_MODES:
        remarks.append(ONE_BIT if bits == 1 else SCALED)
    if image.mode not in MODES:
        raise InputError(
            f"{source} must be grey or RGB of 8 bits; got mode {image.mode}; convert it"
        )
    if orientation(image) in ROTATIONS:
        remarks.append(ROTATED)
        return ImageOps.exif_transpose(image)
    return image


def _first_picture(
    content: bytes, source: str, reading: ImageReading, remarks: list[str]
) -> "Image":
    """Return the first picture of a file, decoded."""
    from PIL import Image

    image = opened(BytesIO(content), source)
    is_photograph = image.format == "MPO"  # of a camera that stores previews after it
    is_turned = orientation(image) in ROTATIONS
    if reading.size and image.width * image.height > REDUCED_FROM:
        image.draft(None, (SPARE * reading.size, SPARE * reading.size))  # of JPEG alone
    try:
        frames = getattr(image, "n_frames", 1)
        image.load()
    except Image.DecompressionBombError as error:
        raise too_large(source, "more") from error
    except DAMAGE as error:
        raise damaged(source, error) from error
    if frames > 1:
        if reading.is_exact and not is_photograph:
            raise InputError(f"{source} is an animation of {frames} frames; save one frame")
        remarks.append(MULTIPLE)
    if is_turned and orientation(image) not in ROTATIONS:  # Pillow turns TIFF as it decodes
        remarks.append(ROTATED)
    return image


def _in_layout(
    image: "Image", source: str, layout: Layout, reading: ImageReading, remarks: list[str]
) -> "Image":
    """Return an image with the channels of a layout, of the size that it has."""
    from PIL import Image

    if image.mode in PALETTE_MODES:
        remarks.append(PALETTE)
    if image.mode == PRINT_MODE:
        _refuse_if_exact(reading, f"{source} has the colours of print (CMYK)")
        remarks.append(PRINTED)
    if is_grey(image) and layout.is_colour:
        remarks.append(GREY)
    if not is_grey(image) and not layout.is_colour:
        remarks.append(COLOUR)
    if not has_alpha(image):
        if layout.has_alpha:
            remarks.append(NO_ALPHA)
        return _converted(image, layout.mode)

    layers = image.convert("RGBA")
    if layout.has_alpha:
        return _converted(layers, layout.mode)
    if layers.getchannel("A").getextrema() == OPAQUE_RANGE:
        remarks.append(OPAQUE)
        return layers.convert("RGB").convert(layout.mode)
    _refuse_if_exact(reading, f"{source} has transparent pixels")
    remarks.append(f"with transparent pixels, flattened onto {reading.background}")
    background = Image.new("RGBA", image.size, (*reading.background_colour, 255))
    return Image.alpha_composite(background, layers).convert("RGB").convert(layout.mode)


def _converted(image: "Image", mode: str) -> "Image":
    """Return an image in another mode, by way of one that Pillow converts to every other."""
    if image.mode == mode:
        return image
    grey = image.mode in GREY_MODES
    between = "L" if grey else "RGBA" if image.mode == "RGBA" else "RGB"
    return image.convert(between).convert(mode)


def _resized(
    image: "Image", source: str, layout: Layout, reading: ImageReading, remarks: list[str]
) -> "Image":
    if not reading.size:
        raise InputError(
            f"{source} has {image.height} x {image.width} pixels, its header says "
            f"{layout.height} x {layout.width}; save it again, or give --size"
        )
    if min(image.size) < reading.size:
        remarks.append(ENLARGED)
    colour = reading.background_colour
    opaque = colour if layout.is_colour else colour[:1]
    background = (*opaque, 0) if layout.has_alpha else opaque
    return RESIZES[reading.resize].apply(image, reading.size, background)


def _refuse_if_exact(reading: ImageReading, fact: str) -> None:
    if reading.is_exact:
        raise InputError(f"{fact}, which would be lost; convert it beforehand")
