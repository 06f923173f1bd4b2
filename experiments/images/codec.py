"""The codec of image and table runs: arrays in files, whole numbers in the coder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from density.coding.bits_back import BitsBack
from density.coding.blocks import Account
from density.coding.container import Header
from density.coding.data_code import Coding
from density.coding.exact import fingerprint, prepared, same_bits
from density.coding.pixels import levels_of, pixel_code, require_codable
from density.images.base import DataModel
from density.trained import TrainedDensity
from experiments.data.arrays import Data
from experiments.data.numpy_files import write_npz
from experiments.data.outputs import Output
from experiments.data.readers import read
from experiments.evaluation.archivers import array_sizes, image_sizes
from experiments.evaluation.file_codec import Content
from experiments.evaluation.open_run import open_run
from experiments.images.binarisation import WHITE, black_and_white
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["ArrayCodec"]

IMAGE_AXES = 3  # channels, height, width
# Images of which the initial bits of a tile of LARGE_TILE are a small part.
MANY = 4000
LARGE_TILE = 4
BYTE_LEVELS = 256


class ArrayCodec:
    """The codec of an image or table run for whole numbers that its pixel distribution has."""

    rate: ClassVar[str] = "bits_per_dim"
    batch_size: ClassVar[int] = 100

    def __init__(self, path: Path) -> None:
        self.run = open_run(TrainedDensity, path, "cpu")
        self.model = prepared(self.run.model)
        self.fingerprint = fingerprint(self.run.model)
        self.pixels = self.run.model.output.pixels

    @property
    def scored_model(self) -> DataModel:
        """The model as it was trained."""
        return self.run.model

    @property
    def run_notes(self) -> Sequence[str]:
        """What was assumed when the run was opened."""
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
        """Read whole numbers from whatever ``train-density`` reads, without binarising them.

        Raises:
            InputError: the model cannot code them: another shape, real numbers, or other levels.
        """
        data = self._with_levels(read(source))
        exact = np.asarray(data.values if data.original is None else data.original)
        remarks = data.notes
        require_codable(self.pixels)
        if data.shape != self.shape:
            raise InputError(
                f"compress: {data.name}: a datum is {data.shape}, "
                f"the model of {self.run.path} takes {self.shape}; give data of that shape"
            )
        notes: JsonObject = {}  # what restoring the file takes, beside the level numbers
        channels_last = exact.ndim == 1 + IMAGE_AXES and exact.shape[1:] != data.shape
        if channels_last:
            notes["last"] = 1
            values = np.moveaxis(exact, 3, 1)
        else:
            values = exact.reshape(-1, *data.shape)
        if self.pixels.levels == 2 and black_and_white(values):
            values = values == WHITE
            notes["white"] = WHITE
            note = f"0 and {WHITE} are coded as black and white, and come back as they are"
            remarks += (f"{data.name}: {note}",)
        header = Header(
            self.fingerprint, coding, torch.__version__, exact.dtype.str, exact.shape, notes
        )
        levels = levels_of(values, self.pixels.levels)
        return Content(exact, levels, header, exact.nbytes, remarks)

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
        """Raise InputError for a name that is none of an array, or of a folder of images."""
        if out.suffix.lower() in (".npy", ".npz") or (self.is_image and not out.suffix):
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
        with out.file() as temporary, temporary.open("wb") as file:
            if suffix == ".npy":
                np.save(file, exact, allow_pickle=False)
            else:
                name = "images" if self.is_image else "x"
                write_npz(file, {name: exact})

    def count_units(self, content: Content[np.ndarray, np.ndarray]) -> int:
        """Return the number of numbers."""
        return content.values.size

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per number."""
        rows = account.count - account.plain
        rate = account.net_bits / rows / self.pixels.dims if rows else None
        return {"net_bits_per_dim": rate}

    def archiver_sizes(self, content: Content[np.ndarray, np.ndarray]) -> dict[str, int]:
        """Return the bytes that general archivers take, of images also those of PNG."""
        if not self.is_image:
            return array_sizes(content.exact)
        small = self.pixels.levels <= BYTE_LEVELS
        images = content.values.astype(np.uint8) if small else content.values
        return image_sizes(images, self.pixels.levels)

    def ideal_rate(self, bits: float, content: Content[np.ndarray, np.ndarray]) -> JsonObject:
        """Return the ideal bits per number."""
        return {"ideal_bits_per_dim": bits / content.values.size}

    def batch(self, values: np.ndarray) -> tuple[Tensor, int | None]:
        """Return level numbers as floats; the estimator chooses how many latents it draws."""
        return torch.from_numpy(values).to(torch.get_default_dtype()), None

    def _with_levels(self, data: Data) -> Data:
        """Return images of 1 bit a pixel in the levels of the model."""
        levels = self.pixels.level_count
        if not data.one_bit or levels is None or levels <= 2:
            return data
        white = levels - 1
        values = np.asarray(data.values) * np.uint8(white)
        note = f"1 bit a pixel, coded as 0 and {white}, and so they come back"
        return replace(data, values=values).noted(f"{data.name}: {note}")

    def _write_pngs(self, exact: np.ndarray, out: Output) -> None:
        from PIL import Image

        channels_first = exact.ndim == 1 + IMAGE_AXES and exact.shape[1:] == self.shape
        images = (np.moveaxis(exact, 1, 3) if channels_first else exact).astype(np.uint8)
        binary = self.pixels.levels == 2 and images.max() <= 1
        if binary:
            images = images * np.uint8(WHITE)
        with out.folder() as folder:
            for number, image in enumerate(images):
                grey = image.shape[2:] == (1,)
                picture = Image.fromarray(image.squeeze(2) if grey else image)
                picture.save(folder / f"{number:06}.png")
