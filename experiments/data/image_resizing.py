"""The registry of ways to resize an image of any shape to a square: ``RESIZES``.

All rows resample by Pillow's Lanczos filter, whose window widens with the reduction, so that fine
patterns do not alias.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["RESIZES", "Resize", "ResizeName"]

Colour: TypeAlias = tuple[int, ...]  # 0..255, one number per channel of the image


@dataclass(frozen=True)
class Resize:
    """A way to resize an image to ``size`` pixels in height and width."""

    summary: str
    apply: Callable[["Image", int, Colour], "Image"]  # the image, the size, the background


def _crop(image: "Image", size: int, background: Colour) -> "Image":
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _pad(image: "Image", size: int, background: Colour) -> "Image":
    from PIL import Image, ImageOps

    # Pillow takes one number, not a tuple of one, for grey
    colour = background if len(background) > 1 else background[0]
    return ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS, color=colour)


def _stretch(image: "Image", size: int, background: Colour) -> "Image":
    from PIL import Image

    return image.resize((size, size), Image.Resampling.LANCZOS)


RESIZES: Mapping[str, Resize] = {
    "crop": Resize("the centre, as high and wide as the shorter side", _crop),
    "pad": Resize("the whole image, with margins of --background", _pad),
    "stretch": Resize("the whole image, its sides scaled unequally", _stretch),
}

if TYPE_CHECKING:
    ResizeName: TypeAlias = str
else:
    ResizeName = Literal[tuple(RESIZES)]  # read by the command line and the rules
