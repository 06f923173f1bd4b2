"""The codec of image and table runs, which codes arrays of whole numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

from density.coding.bits_back import BitsBack
from density.coding.blocks import Account
from density.coding.container import Header
from density.coding.data_code import Coding
from density.coding.exact import fingerprint, prepared, same_bits
from density.coding.levels import levels_of
from density.coding.pixels import pixel_code, require_codable
from density.images.base import DataModel
from density.likelihoods.distributions import BINARY
from density.trained import TrainedDensity
from experiments.data.arrays import Data
from experiments.data.image_files import ImageFiles
from experiments.data.numpy_files import write_npz
from experiments.data.outputs import Output
from experiments.data.readers import read
from experiments.evaluation.archivers import array_sizes, image_sizes
from experiments.evaluation.file_codec import Content
from experiments.evaluation.open_run import open_run
from experiments.images.binarisation import WHITE, black_and_white
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import BEST

__all__ = ["ArrayCodec"]

IMAGE_AXES = 3  # channels, height, width
MANY = 4000  # images: the initial bits of LARGE_TILE are then a small share of the file
LARGE_TILE = 4
BYTE_LEVELS = 256


def _write_npy(file: BinaryIO, name: str, array: np.ndarray) -> None:
    np.save(file, array, allow_pickle=False)


def _write_npz(file: BinaryIO, name: str, array: np.ndarray) -> None:
    write_npz(file, {name: array})


# Suffix of an output -> function that writes an array of a name to it.
ARRAY_WRITERS: Mapping[str, Callable[[BinaryIO, str, np.ndarray], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
}


class ArrayCodec:
    """The codec of an image or table run, for the whole numbers of its pixel distribution."""

    rate: ClassVar[str] = "bits_per_dim"
    batch_size: ClassVar[int] = 100

    def __init__(self, path: Path, checkpoint: str = BEST) -> None:
        self.run = open_run(TrainedDensity, path, "cpu", checkpoint)
        self.model = prepared(self.run.model)
        self.fingerprint = fingerprint(self.run.model)
        self.pixels = self.run.model.output.pixels

    @property
    def scored_model(self) -> DataModel:
        """The model as it was trained."""
        return self.run.model

    @property
    def run_notes(self) -> Sequence[str]:
        """The assumptions made when the run was opened."""
        return self.run.notes

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image or row."""
        return tuple(self.pixels.shape)

    @property
    def is_image(self) -> bool:
        """Whether the data are images, not rows of a table."""
        return len(self.shape) == IMAGE_AXES

    def coder(self, header: Header) -> BitsBack[np.ndarray]:
        """Return the coder of a file's level numbers."""
        code = pixel_code(self.model, self.shape, header.coding.tile)
        return BitsBack(self.model, code, header.coding)

    def default_tile(self, count: int) -> int:
        """Return how many images or rows are coded together."""
        return 1 if count < MANY else LARGE_TILE

    def read(self, source: str, coding: Coding) -> Content[np.ndarray, np.ndarray]:
        """Read whole numbers from any source of ``train-density``, without binarising them.

        Raises:
            InputError: the model cannot code them: another shape, real numbers, or other levels.
        """
        data = self._with_levels(read(source, ImageFiles.exact(self.run.folder)))
        exact = np.asarray(data.values if data.original is None else data.original)
        require_codable(self.pixels)
        self._require_shape(data)

        header_notes: JsonObject = {}  # needed to restore the array, besides the level numbers
        values, is_channels_last = self._channels_first(exact)
        if is_channels_last:
            header_notes["last"] = 1
        if self.pixels.levels == BINARY and black_and_white(values):
            values = values == WHITE
            header_notes["white"] = WHITE
            note = f"0 and {WHITE} are coded as black and white, and come back as they are"
            data = data.noted(f"{data.name}: {note}")
        header = Header(
            self.fingerprint, coding, torch.__version__, exact.dtype.str, exact.shape, header_notes
        )
        levels = levels_of(values, self.pixels.levels)
        return Content(exact, levels, header, exact.nbytes, data.notes)

    def restore(self, values: np.ndarray, header: Header) -> np.ndarray:
        """Return the array of a file from its level numbers."""
        if header.notes.get("white") == WHITE:
            values = WHITE * values
        if header.notes.get("last"):
            values = np.moveaxis(values, 1, 3)
        return values.astype(header.dtype).reshape(header.shape)

    def equal(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Return whether two arrays have the same dtype, shape and bits."""
        return same_bits(a, b)

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` for the name of another format than the data can have."""
        if out.suffix.lower() in ARRAY_WRITERS or (self.is_image and not out.suffix):
            return
        folder = ", or a folder without a suffix for PNG" if self.is_image else ""
        raise InputError(
            f"decompress: {out}: the file holds an array; "
            f"give a name that ends in .npy, .npz{folder}"
        )

    def write(self, exact: np.ndarray, out: Output) -> None:
        """Write an .npy, an .npz with ``images`` or ``x``, or a folder of PNG images.

        Zeros and ones are black and white in a PNG.
        """
        suffix = out.path.suffix.lower()
        if not suffix:
            self._write_pngs(exact, out)
            return
        name = "images" if self.is_image else "x"
        with out.file() as temporary, temporary.open("wb") as file:
            ARRAY_WRITERS[suffix](file, name, exact)

    def count_units(self, content: Content[np.ndarray, np.ndarray]) -> int:
        """Return the number of pixels' channels, or of table cells."""
        return content.values.size

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per dimension."""
        rows = account.count - account.plain
        rate = account.net_bits / rows / self.pixels.dims if rows else None
        return {"net_bits_per_dim": rate}

    def archiver_sizes(self, content: Content[np.ndarray, np.ndarray]) -> dict[str, int]:
        """Return the sizes in general formats, of images also in PNG, in bytes."""
        if not self.is_image:
            return array_sizes(content.exact)
        small = self.pixels.levels <= BYTE_LEVELS
        images = content.values.astype(np.uint8) if small else content.values
        return image_sizes(images, self.pixels.levels)

    def ideal_rate(self, bits: float, content: Content[np.ndarray, np.ndarray]) -> JsonObject:
        """Return the ideal bits per dimension."""
        return {"ideal_bits_per_dim": bits / content.values.size}

    def batch(self, values: np.ndarray) -> tuple[Tensor, int | None]:
        """Return level numbers as floats; the estimator chooses how many latents it draws."""
        return torch.from_numpy(values).to(torch.get_default_dtype()), None

    def _with_levels(self, data: Data) -> Data:
        """Return images of 1 bit a pixel in the levels of the model."""
        levels = self.pixels.level_count
        if not data.one_bit or levels is None or levels <= BINARY:
            return data
        white = levels - 1
        values = np.asarray(data.values) * np.uint8(white)
        note = f"1 bit a pixel, coded and restored as 0 and {white}"
        return replace(data, values=values).noted(f"{data.name}: {note}")

    def _require_shape(self, data: Data) -> None:
        if data.shape != self.shape:
            raise InputError(
                f"compress: {data.name}: a datum is {data.shape}, "
                f"the model of {self.run.path} takes {self.shape}; give data of that shape"
            )

    def _channels_first(self, exact: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return rows of the model's shape, and whether the array has its channels last."""
        if exact.ndim == 1 + IMAGE_AXES and exact.shape[1:] != self.shape:
            return np.moveaxis(exact, 3, 1), True
        return exact.reshape(-1, *self.shape), False

    def _write_pngs(self, exact: np.ndarray, out: Output) -> None:
        from PIL import Image

        channels_first = exact.ndim == 1 + IMAGE_AXES and exact.shape[1:] == self.shape
        images = (np.moveaxis(exact, 1, 3) if channels_first else exact).astype(np.uint8)
        binary = self.pixels.levels == BINARY and images.max() <= 1
        if binary:
            images = images * np.uint8(WHITE)
        with out.folder() as folder:
            for number, image in enumerate(images):
                grey = image.shape[2:] == (1,)
                picture = Image.fromarray(image.squeeze(2) if grey else image)
                picture.save(folder / f"{number:06}.png")
