"""The codec of image and table runs, which codes arrays of whole numbers."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from density.coding.archive import Archive
from density.coding.bits_back import BitsBack
from density.coding.blocks import Account
from density.coding.container import Header
from density.coding.data_code import Coding
from density.coding.exact import fingerprint, prepared, same_bits
from density.coding.levels import levels_of
from density.coding.pixel_codes import pixel_code, with_waves
from density.coding.pixels import require_codable
from density.images.base import DataModel
from density.likelihoods.distributions import BINARY
from density.trained import TrainedDensity
from experiments.data.arrays import Data
from experiments.data.image_files import ImageFiles
from experiments.data.outputs import Output
from experiments.data.readers import read
from experiments.data.sources import has_suffix, size_on_disk
from experiments.evaluation.archivers import array_sizes, image_sizes
from experiments.evaluation.file_codec import Content, Part
from experiments.evaluation.open_run import open_run
from experiments.images.array_output import ARRAY_WRITERS, check_array_name, write_array, write_pngs
from experiments.images.binarisation import WHITE, black_and_white
from experiments.images.coded_pictures import join_picture, split_picture
from experiments.images.stored_arrays import DTYPE, array_of, from_levels, store_array
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.run_folder import BEST

__all__ = ["ArrayCodec"]

IMAGE_AXES = 3  # channels, height, width
MANY = 4000  # images: the initial bits of LARGE_TILE are then a small share of the file
LARGE_TILE = 4
WAVE_TILES = (4, 16)  # of autoregressive pixels, which a larger tile makes up to four times faster
# Bits of a block, without a code, for each row of a tile: initial bits are about 1% of coded ones.
TILE_BITS = 784_000
BYTE_LEVELS = 256


def _lost(source: str, data: Data) -> list[str]:
    """Return notes on what a data set holds besides its array."""
    notes = []
    if data.labels is not None:
        notes.append(f"{data.name}: its labels are not in the compressed file")
    if has_suffix(Path(source), ".zip"):
        notes.append(
            f"{data.name}: the names of its files are not in the compressed file; unpack it, and "
            "compress the folder, to keep them"
        )
    return notes


class ArrayCodec:
    """The codec of an image or table run, for the whole numbers of its pixel distribution."""

    rate: ClassVar[str] = "bits_per_dim"
    batch_size: ClassVar[int] = 100
    exactness: ClassVar[str] = "pixels_exact"

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
        coding = header.coding
        code = pixel_code(self.model, self.shape, coding.tile, waves=coding.waves)
        return BitsBack(self.model, code, coding)

    def default_tile(self, count: int, block: int) -> int:
        """Return how many images or rows are coded together."""
        if not self.pixels.reach:
            return 1 if count < MANY else LARGE_TILE
        bits = min(count, block) * self.pixels.dims * math.log2(self.pixels.levels)
        return max((tile for tile in WAVE_TILES if bits >= tile * TILE_BITS), default=1)

    def new_coding(self, coding: Coding) -> Coding:
        """Return the options of a new file: in waves if pixels depend on those before them."""
        return with_waves(coding, self.model)

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
        return Content(
            exact,
            levels,
            header,
            size=size_on_disk(source, exact.nbytes),
            stored=store_array(exact, levels, header, self.pixels.levels),
            units=levels.size,
            archiver_sizes=lambda: self._archiver_sizes(exact, levels),
            facts={"bytes_array": exact.nbytes},
            notes=(*data.notes, *_lost(source, data)),
        )

    def restore(self, values: np.ndarray, header: Header) -> np.ndarray:
        """Return the array of a file from its level numbers."""
        return from_levels(values, header.notes, header.dtype, header.shape)

    def restore_stored(self, archive: Archive) -> np.ndarray:
        """Return an array that is stored without the model."""
        if DTYPE not in archive.facts:
            raise InputError(
                f"decompress: the file holds no array, and {self.run.path} is the run of an image "
                "or table model; give the run that wrote it"
            )
        return array_of(archive, self.shape)

    def equal(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Return whether two arrays have the same dtype, shape and bits."""
        return same_bits(a, b)

    def check_name(self, out: Path) -> None:
        """Raise :class:`InputError` for the name of another format than the data can have."""
        check_array_name(out, is_image=self.is_image)

    def is_file_name(self, out: Path) -> bool:
        """Return whether the images of a folder go to one array of this name."""
        return out.suffix.lower() in ARRAY_WRITERS

    def as_file(self, values: np.ndarray) -> np.ndarray:
        """Return the level numbers of images in the smallest dtype."""
        return values.astype(np.min_scalar_type(self.pixels.levels - 1))

    def write(self, exact: np.ndarray, out: Output) -> None:
        """Write an .npy, an .npz with ``images`` or ``x``, or a folder of PNG images."""
        if out.path.suffix or out.is_stdout:
            write_array(exact, out, "images" if self.is_image else "x")
            return
        is_channels_first = exact.ndim == 1 + IMAGE_AXES and exact.shape[1:] == self.shape
        images = np.moveaxis(exact, 1, 3) if is_channels_first else exact
        write_pngs(images, out, is_binary=self.pixels.levels == BINARY)

    def check_folder(self) -> None:
        """Raise :class:`InputError` for a table run, or one that codes no whole numbers."""
        if not self.is_image:
            raise InputError(
                f"compress: {self.run.path} is the run of a table model, which codes one file; "
                "give a file, or the run of an image model"
            )
        require_codable(self.pixels)

    def split(self, content: bytes) -> Part | None:
        """Return the pixels of a PNG of the model's shape and levels; None for other files."""
        return split_picture(content, self.shape, self.pixels.levels)

    def join(self, part: Part) -> bytes:
        """Return a PNG of the same pixels."""
        return join_picture(part, self.pixels.levels)

    def join_rows(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the level numbers of several images in one array."""
        return np.concatenate([np.empty((0, *self.shape), np.int64), *parts])

    def count_units(self, part: Part) -> int:
        """Return the number of pixels' channels."""
        return int(part.rows.size)

    def net_rate(self, account: Account) -> JsonObject:
        """Return the net bits per dimension."""
        rows = account.count - account.plain
        rate = account.net_bits / rows / self.pixels.dims if rows else None
        return {"net_bits_per_dim": rate}

    def ideal_rate(self, bits: float, values: np.ndarray) -> JsonObject:
        """Return the ideal bits per dimension."""
        return {"ideal_bits_per_dim": bits / values.size}

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

    def _archiver_sizes(self, exact: np.ndarray, values: np.ndarray) -> dict[str, int]:
        """Return the bytes of an array in general formats, of images also in PNG."""
        if not self.is_image:
            return array_sizes(exact)
        small = self.pixels.levels <= BYTE_LEVELS
        images = values.astype(np.uint8) if small else values
        return image_sizes(images, self.pixels.levels)
