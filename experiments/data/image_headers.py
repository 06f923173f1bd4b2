"""The header of an image file: what it says about the image before its pixels are decoded."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from univae.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "DAMAGE",
    "GREY_MODES",
    "MOST_PIXELS",
    "DamagedImage",
    "Facts",
    "damaged",
    "facts_of",
    "has_alpha",
    "has_other_profile",
    "is_grey",
    "large_allowed",
    "opened",
    "orientation",
    "too_large",
]

# Of one image: beyond them Pillow refuses to open it. To decode and convert them takes up to 2 GB.
MOST_PIXELS = 178_956_970

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow's names

# What Pillow and its decoders raise for damaged files.
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)

GREY_MODES = ("1", "L", "LA")  # Pillow's names of 8 bits a channel or fewer
WIDE_GREY = "I"  # the beginning of Pillow's names of grey of more bits
ALPHA_MODES = ("LA", "PA", "RGBA")
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
TIFF_WIDTH = 256  # the tags
TIFF_HEIGHT = 257
SIDEWAYS = range(5, 9)  # orientations that exchange height and width


class DamagedImage(InputError):
    """A file that Pillow cannot read as an image, or that has too many pixels."""


class Facts(NamedTuple):
    """What the header of a file says about its image."""

    height: int
    width: int
    is_colour: bool
    has_alpha: bool


def facts_of(file: BufferedIOBase, source: str) -> Facts:
    """Return the facts of the header of an image file, whose pixels are not decoded.

    Raises:
        DamagedImage: Pillow cannot read the header.
    """
    image = opened(file, source)
    try:
        width, height = _stored_size(image)
        if orientation(image) in SIDEWAYS:
            width, height = height, width
    except DAMAGE as error:
        raise damaged(source, error) from error
    is_colour = not is_grey(image)
    return Facts(height, width, is_colour, has_alpha(image))


def _stored_size(image: "Image") -> tuple[int, int]:
    """Return width and height before the image is turned upright."""
    if image.format != "TIFF":
        return image.size
    # the size of a TIFF that was not decoded yet is upright or not by the version of Pillow
    tags = image.tag_v2  # type: ignore[attr-defined]
    return int(tags[TIFF_WIDTH]), int(tags[TIFF_HEIGHT])


def opened(file: BufferedIOBase, source: str) -> "Image":
    """Return an image whose pixels are decoded when they are first used.

    Raises:
        DamagedImage: the file is of no known format, its header is damaged, or the image has more
            than 179 megapixels.
    """
    from PIL import Image

    try:
        image = Image.open(cast("IO[bytes]", file), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise too_large(source, "more") from error
    except DAMAGE as error:
        raise damaged(source, error) from error
    if image.width * image.height > MOST_PIXELS:
        raise too_large(source, f"{image.width} x {image.height}")
    return image


@contextmanager
def large_allowed() -> Iterator[None]:
    """Silence Pillow's warning of images of more than half of :data:`MOST_PIXELS`."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def too_large(source: str, size: str) -> DamagedImage:
    """Return the error for an image of too many pixels, ``size`` in words."""
    return DamagedImage(
        f"{source} may have at most {MOST_PIXELS:,} pixels; got {size}; make it smaller, or leave "
        "it out with --skip-damaged"
    )


def damaged(source: str, error: Exception) -> DamagedImage:
    """Return the error for a file that Pillow refuses with ``error``."""
    from PIL import Image

    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, Image.UnidentifiedImageError):
        reason = "its content is of another format"
    return DamagedImage(
        f"{source} cannot be read as an image ({reason}); remove it, or leave damaged images out "
        "with --skip-damaged"
    )


def is_grey(image: "Image") -> bool:
    """Return whether an image has one channel, besides alpha."""
    return image.mode in GREY_MODES or image.mode.startswith(WIDE_GREY)


def has_alpha(image: "Image") -> bool:
    """Return whether an image has a channel or a colour that may be transparent."""
    return image.mode in ALPHA_MODES or "transparency" in image.info


def orientation(image: "Image") -> int:
    """Return the EXIF orientation, 1 where there is none."""
    # of a PNG whose header has none, getexif would decode the pixels to search after them
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1
    return int(image.getexif().get(ORIENTATION, 1))


def has_other_profile(image: "Image") -> bool:
    """Return whether an image has a colour profile that does not say that it is sRGB."""
    profile = image.info.get("icc_profile") or b""
    names = (b"sRGB", "sRGB".encode("utf-16-be"))
    return bool(profile) and not any(name in profile for name in names)
