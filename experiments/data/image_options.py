"""The options of image files: a part of the configurations of commands that train on images."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from typing_extensions import Doc

from experiments.data.image_resizing import RESIZES, ResizeName
from univae.errors import InputError
from univae.registry import choices_help
from univae.rules import Rule, at_least, check, reading
from univae.run_folder import RunFolder, stored_value

__all__ = ["ExactReading", "ImageReading", "refuse_unused", "stored_reading"]

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
}
HEXADECIMAL = re.compile("#[0-9a-fA-F]{6}")
LARGEST_SIZE = 4096  # pixels; three channels are then more numbers than a model takes


def _colour_rule(value: str) -> str:
    if value in COLOURS or HEXADECIMAL.fullmatch(value):
        return ""
    return f"{', '.join(COLOURS)} or #rrggbb"


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """How image files become arrays of one size and one number of channels, of 8 bits each."""

    size: int = 0  # height and width in pixels to which images are resized; 0: as they are
    resize: Annotated[
        ResizeName,
        Doc(choices_help("with --size, or as --fit: other shapes", RESIZES)),
    ] = "crop"
    # 1: read images as grey; 3: as colour; auto: as colour where at least one image has it
    channels: Literal["auto", "1", "3"] = "auto"
    # transparent pixels: flatten them onto --background, or keep alpha as the last channel
    alpha: Literal["flatten", "keep"] = "flatten"
    # behind transparent pixels, and of the margins of --resize pad: white, black, grey or #rrggbb
    background: str = "white"
    bits: Literal[0, 8] = 0  # 8: keep the high 8 bits of 16 bits a channel; 0: refuse such images
    skip_damaged: bool = False  # leave out images that cannot be read, with a note, not an error
    # folder for the decoded images; empty: the run's folder inputs, from 256 MB on
    cache: str = ""

    RULES: ClassVar[Mapping[str, Rule]] = {
        "size": at_least(0, LARGEST_SIZE, "0 (as they are) or more"),
        "background": _colour_rule,
    }
    # whether conversions that lose information are refused
    is_exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)
        if self.resize != "crop" and not self.size:
            raise InputError(
                f"resize={self.resize} needs a size to resize images to; give --size, or drop it"
            )

    @property
    def background_colour(self) -> tuple[int, int, int]:
        """The red, green and blue of the background, 0..255."""
        if self.background in COLOURS:
            return COLOURS[self.background]
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue

    @property
    def has_grey_background(self) -> bool:
        """Whether the background has no colour, so that grey images stay grey on it."""
        return len(set(self.background_colour)) == 1

    def changed(self) -> list[str]:
        """Return the options, as they are typed, that differ from their defaults."""
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return [f"--{field.name.replace('_', '-')}" for field in changed]


class ExactReading(ImageReading):
    """A reading that refuses what loses information: flattening, fewer bits, other pictures."""

    is_exact: ClassVar[bool] = True

    @classmethod
    def of(cls, stored: ImageReading) -> "ExactReading":
        """Return the reading for a lossless copy of images as ``stored`` reads them."""
        return cls(alpha=stored.alpha)


def stored_reading(run: RunFolder) -> ImageReading:
    """Return how the images of a run were read; the defaults where the run is older.

    Raises:
        InputError: a value in ``config.json`` breaks its rule.
    """
    values: dict[str, Any] = {}
    with reading(run.path / "config.json"):
        for field in fields(ImageReading):
            if field.name in run.config:
                values[field.name] = stored_value(run, ImageReading, field.name)
    return ImageReading(**values)


def refuse_unused(images: ImageReading, option: str) -> None:
    """Raise :class:`InputError` where options of image files are given for other data."""
    changed = images.changed()
    if changed:
        raise InputError(
            f"{', '.join(changed)}: for image files only; {option} holds arrays or rows; "
            "convert them beforehand, or drop the option"
        )
