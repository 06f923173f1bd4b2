"""The codec of image and table runs: arrays in files, whole numbers in the coder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from density.coding.bits_back import BitsBack
from density.coding.compress import fingerprint, levels_of, pixel_code, prepared
from density.coding.container import Header
from density.coding.data_code import Coding
from density.coding.pixels import require_codable
from experiments.data.numpy_files import write_npz
from experiments.data.outputs import Output
from experiments.data.readers import read
from experiments.evaluation.file_codec import CodecInput
from experiments.images.run import WHITE, ImageRun, black_and_white
from univae.errors import InputError

__all__ = ["Arrays"]


class Arrays:
    """The codec of an image or table run; it takes whole numbers that the run's law knows."""

    def __init__(self, path: Path) -> None:
        self.opened = ImageRun(path, "cpu")
        self.model, self.fingerprint = prepared(self.opened.model), fingerprint(self.opened.model)
        self.pixels = self.opened.model.output.pixels

    def coder(self, header: Header) -> BitsBack:
        code = pixel_code(self.model, tuple(self.pixels.shape), header.coding.tile)
        return BitsBack(self.model, code, header.coding)

    def read(self, source: str, coding: Coding) -> CodecInput:
        """Whole numbers from whatever ``train-density`` reads, not binarised: what is coded is what is there."""
        data = read(source)
        levels = self.pixels.level_count
        if data.one_bit and levels is not None and levels > 2:
            white = levels - 1
            note = f"1 bit a pixel, coded as 0 and {white}, and so they come back"
            data = replace(data, values=np.asarray(data.values) * np.uint8(white)).noted(
                f"{data.name}: {note}"
            )
        exact = np.asarray(data.values if data.original is None else data.original)
        remarks = data.notes
        require_codable(self.pixels)
        if data.shape != tuple(self.pixels.shape):
            raise InputError(
                f"compress: {data.name}: a datum is {data.shape}, the model of {self.opened.run.path} takes "
                f"{tuple(self.pixels.shape)}; give data of that shape"
            )
        last = exact.ndim == 4 and exact.shape[1:] != data.shape
        values = np.moveaxis(exact, 3, 1) if last else exact.reshape(-1, *data.shape)
        notes = {"last": 1} if last else {}
        if self.pixels.levels == 2 and black_and_white(values):
            values = values == WHITE
            notes["white"] = WHITE
            remarks += (
                f"{data.name}: 0 and {WHITE} are coded as black and white, and come back as they are",
            )
        header = Header(
            self.fingerprint, coding, torch.__version__, exact.dtype.str, exact.shape, notes
        )
        return CodecInput(
            exact, levels_of(values, self.pixels.levels), header, exact.nbytes, remarks
        )

    def restore(self, values: np.ndarray, header: Header) -> np.ndarray:
        if header.notes.get("white") == WHITE:
            values = WHITE * values
        if header.notes.get("last"):
            values = np.moveaxis(values, 1, 3)
        return values.astype(header.dtype).reshape(header.shape)

    def check_name(self, out: Path) -> None:
        if out.suffix.lower() not in (".npy", ".npz") and (
            out.suffix or len(self.pixels.shape) != 3
        ):
            kinds = ".npy, .npz" + (
                ", or a folder without a suffix for PNG" if len(self.pixels.shape) == 3 else ""
            )
            raise InputError(
                f"decompress: {out}: the file holds an array; give a name that ends in {kinds}"
            )

    def write(self, exact: np.ndarray, out: Output) -> None:
        """An .npy, an .npz with ``images`` or ``x``, or a folder of PNG.

        Zeros and ones are black and white there.
        """
        kind = out.path.suffix.lower()
        if kind:
            with out.file() as temporary, temporary.open("wb") as file:
                if kind == ".npy":
                    np.save(file, exact, allow_pickle=False)
                else:
                    name = "images" if len(self.pixels.shape) == 3 else "x"
                    write_npz(file, {name: exact})
            return
        from PIL import Image

        first = exact.ndim == 4 and exact.shape[1:] == tuple(self.pixels.shape)
        images = (np.moveaxis(exact, 1, 3) if first else exact).astype(np.uint8)
        binary = self.pixels.levels == 2 and images.max() <= 1
        with out.folder() as folder:
            for i, image in enumerate(images * np.uint8(WHITE if binary else 1)):
                Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).save(
                    folder / f"{i:06}.png"
                )
