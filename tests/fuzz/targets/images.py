"""Folders and archives of images."""

import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.data.image_files import ImageFiles
from experiments.data.image_headers import MOST_PIXELS
from experiments.data.image_options import ImageReading
from experiments.data.readers import read as read_data
from tests.fuzz.target import Target

Image.init()  # the children need not import the decoders
# bytes: an image of MOST_PIXELS as it is decoded, in its grey and its colours, and as an array
MEMORY = 12 * MOST_PIXELS
DRAW = np.random.default_rng(0)
GREY = Image.fromarray(DRAW.integers(0, 256, (6, 5), dtype=np.uint8))
COLOUR = Image.fromarray(DRAW.integers(0, 256, (6, 5, 3), dtype=np.uint8))
TRANSPARENT = Image.fromarray(DRAW.integers(0, 256, (6, 5, 4), dtype=np.uint8))
DEEP = Image.fromarray(DRAW.integers(0, 2**16, (6, 5), dtype=np.uint16))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _encoded(COLOUR, "JPEG", exif=exif)


def _images() -> dict[str, bytes]:
    return {
        "grey.png": _encoded(GREY, "PNG"),
        "colour.png": _encoded(COLOUR, "PNG"),
        "transparent.png": _encoded(TRANSPARENT, "PNG"),
        "palette.png": _encoded(COLOUR.quantize(8), "PNG"),
        "black.png": _encoded(GREY.convert("1"), "PNG"),
        "deep.png": _encoded(DEEP, "PNG"),
        "photograph.jpg": _turned(),
        "web.webp": _encoded(COLOUR, "WEBP", lossless=True),
        "bits.bmp": _encoded(COLOUR, "BMP"),
        "tagged.tif": _encoded(COLOUR, "TIFF", compression="tiff_lzw"),
        "plain.tiff": _encoded(GREY, "TIFF"),
        "moving.gif": _encoded(GREY, "GIF", save_all=True, append_images=[GREY.rotate(180)]),
    }


def make(folder: Path) -> Sequence[Path]:
    paths = []
    for name, content in _images().items():
        place = folder / name.partition(".")[0]  # a set of its own, so that files are read fast
        place.mkdir()
        (place / name).write_bytes(content)
        paths.append(place / name)
    return paths


def read(path: Path) -> None:
    ImageFiles(ImageReading(alpha="keep", bits=8)).read(path.parent)


def read_resized(path: Path) -> None:
    ImageFiles(ImageReading(size=4, bits=8, resize="pad")).read(path.parent)


def make_archives(folder: Path) -> Sequence[Path]:
    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.png", _encoded(GREY, "PNG"))
        archive.writestr("b/1.png", _encoded(GREY.rotate(180), "PNG"))
        archive.writestr("b/notes.txt", "no image")
    for name, mode in {"images.tar": "w", "images.tar.gz": "w:gz", "images.tgz": "w:gz"}.items():
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            for member, image in {"a/0.png": GREY, "b/1.png": GREY.rotate(180)}.items():
                content = _encoded(image, "PNG")
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return sorted(folder.iterdir())


def read_archive(path: Path) -> None:
    read_data(path)


TARGETS: list[Target] = [
    Target("images", make, read_resized, MEMORY),
    Target("images-as-they-are", make, read, MEMORY),
    Target("archives", make_archives, read_archive, MEMORY),
]
