"""A PNG comes back with its pixels, bit depth and metadata; any other file is left whole."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from experiments.images.coded_pictures import join_picture, split_picture
from experiments.images.png_parts import join_png, split_png

GREY = np.random.default_rng(0).integers(0, 256, (5, 4), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def text(words: str) -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", words)
    return info


CODED = {
    "grey": (Image.fromarray(GREY), {}),
    "colour": (Image.fromarray(COLOUR), {}),
    "one bit": (Image.fromarray(GREY > 99), {}),
    "metadata": (Image.fromarray(COLOUR), {"dpi": (72, 72), "pnginfo": text("IDAT")}),
    "large": (Image.fromarray(np.resize(COLOUR, (300, 300, 3))), {}),
}


@pytest.mark.parametrize("name", CODED)
def test_a_png_comes_back_with_pixels_and_metadata(name: str) -> None:
    image, options = CODED[name]
    content = png(image, compress_level=1, **options)
    channels = 3 if image.mode == "RGB" else 1
    picture = split_png(content, (channels, image.height, image.width))
    assert picture is not None
    assert picture.one_bit == (image.mode == "1")
    assert len(picture.frame) < 200
    again = Image.open(io.BytesIO(join_png(picture)))
    again.load()
    assert again.mode == image.mode
    assert np.array_equal(np.asarray(again), np.asarray(image))
    first = Image.open(io.BytesIO(content))
    assert again.info == first.info


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


ANIMATION = {"save_all": True, "append_images": [Image.fromarray(255 - GREY)]}
WHOLE = {
    "jpeg": jpeg(Image.fromarray(GREY)),
    "empty": b"",
    "signature": png(Image.fromarray(GREY))[:8],
    "cut": png(Image.fromarray(GREY))[:-1],
    "longer": png(Image.fromarray(GREY)) + b"x",
    "16 bits": png(Image.fromarray(GREY.astype(np.uint16))),
    "alpha": png(Image.fromarray(np.dstack([COLOUR, GREY]))),
    "grey alpha": png(Image.fromarray(GREY).convert("LA")),
    "palette": png(Image.fromarray(GREY).convert("P")),
    "transparent": png(Image.fromarray(GREY), transparency=3),
    "animation": png(Image.fromarray(GREY), **ANIMATION),
    "other size": png(Image.fromarray(GREY.T.copy())),
    "colour": png(Image.fromarray(COLOUR)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_pixels_would_not_restore_is_not_taken_apart(name: str) -> None:
    assert split_png(WHOLE[name], (1, 5, 4)) is None


def test_every_damaged_byte_leaves_a_file_whole() -> None:
    content = png(Image.fromarray(GREY))
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 16
        assert split_png(bytes(broken), (1, 5, 4)) is None


@pytest.mark.parametrize(
    ("levels", "highest"), [(2, 255), (256, 255), (17, 16)], ids=["binary", "grey", "17 levels"]
)
def test_level_numbers_are_those_of_the_model(levels: int, highest: int) -> None:
    pixels = np.where(GREY > 99, highest, 0).astype(np.uint8)
    for image in (Image.fromarray(pixels), Image.fromarray(GREY > 99)):
        content = png(image)
        part = split_picture(content, (1, 5, 4), levels)
        assert part is not None
        assert set(np.unique(part.rows)) == {0, levels - 1}
        assert join_picture(part, levels) == content
    if levels < 256:
        assert split_picture(png(Image.fromarray(GREY)), (1, 5, 4), levels) is None
