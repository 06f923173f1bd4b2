"""What a file of data is to a codec, and a codec's data to a file: arrays for image and table runs, lines for texts.

What comes back is what was given: an array with its dtype and shape, a text with its line ends and without a newline
where there was none. Labels, names of files and other arrays beside the data are not part of them.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from density.bits_back import BitsBack
from density.container import Header
from density.emission import Coding
from density.lossless import fingerprint, levels_of, pixel_code, prepared
from experiments.data import read
from experiments.image_run import ImageRun
from experiments.outputs import Output
from experiments.run import Run
from experiments.text_code import TextCode, join_pieces, pieces
from experiments.text_run import BUILT_IN, TextRun
from univae.errors import InputError

__all__ = ["Arrays", "Coder", "Given", "Texts", "open_coder"]


WHITE = 255  # of black and white pictures of 8 bits, as decompress writes them


@dataclass(frozen=True)
class Given:
    """Data as they came, and as the codec takes them."""

    exact: Any  # an array, or the text of a file
    values: Any  # level numbers (N, *shape), or lists of tokens
    header: Header
    size: int  # bytes
    notes: tuple[str, ...] = ()  # what the reader left out or assumed


class Coder(Protocol):
    """A run's codec. ``read`` and ``write`` meet files; ``restore`` inverts what ``read`` did to the data."""

    opened: Any
    fingerprint: bytes

    def coder(self, header: Header) -> BitsBack: ...
    def read(self, source: str, coding: Coding) -> Given: ...
    def restore(self, values: Any, header: Header) -> Any: ...
    def write(self, exact: Any, out: Output) -> None: ...
    def check_name(self, out: Path) -> None: ...


def open_coder(path: Path) -> "Arrays | Texts":
    """The codec of a run, by what trained it."""
    return Arrays(path) if Run.open(path).config.get("command") == "train-density" else Texts(path)


class Arrays:
    """The codec of an image or table run; it takes whole numbers that the run's law knows."""

    def __init__(self, path: Path) -> None:
        self.opened = ImageRun(path, "cpu")
        self.model, self.fingerprint = prepared(self.opened.model), fingerprint(self.opened.model)
        self.pixels = self.opened.model.output.pixels

    def coder(self, header: Header) -> BitsBack:
        code = pixel_code(self.model, tuple(self.pixels.shape), header.coding.tile)
        return BitsBack(self.model, code, header.coding)

    def read(self, source: str, coding: Coding) -> Given:
        """Whole numbers from whatever ``train-density`` reads, not binarised: what is coded is what is there."""
        data = read(source)
        if data.one_bit and self.pixels.nats == "mass" and self.pixels.levels > 2:
            white = self.pixels.levels - 1
            note = f"1 bit a pixel, coded as 0 and {white}, and so they come back"
            data = replace(data, values=np.asarray(data.values) * np.uint8(white)).noted(f"{data.name}: {note}")
        exact = np.asarray(data.values if data.given is None else data.given)
        remarks = data.notes
        if self.pixels.nats == "density":
            pixel_code(self.model, tuple(self.pixels.shape), 1)  # says which law is needed
        if data.shape != tuple(self.pixels.shape):
            raise InputError(
                f"compress: {data.name}: a datum is {data.shape}, the model of {self.opened.run.path} takes "
                f"{tuple(self.pixels.shape)}; give data of that shape"
            )
        last = exact.ndim == 4 and exact.shape[1:] != data.shape
        values = np.moveaxis(exact, 3, 1) if last else exact.reshape(-1, *data.shape)
        notes = {"last": 1} if last else {}
        if self.pixels.levels == 2 and _black_and_white(values):
            values = values == WHITE
            notes["white"] = WHITE
            remarks += (f"{data.name}: 0 and {WHITE} are coded as black and white, and come back as they are",)
        header = Header(self.fingerprint, coding, torch.__version__, exact.dtype.str, exact.shape, notes)
        return Given(exact, levels_of(values, self.pixels.levels), header, exact.nbytes, remarks)

    def restore(self, values: np.ndarray, header: Header) -> np.ndarray:
        if header.notes.get("white") == WHITE:
            values = WHITE * values
        if header.notes.get("last"):
            values = np.moveaxis(values, 1, 3)
        return values.astype(header.dtype).reshape(header.shape)

    def check_name(self, out: Path) -> None:
        if out.suffix.lower() not in (".npy", ".npz") and (out.suffix or len(self.pixels.shape) != 3):
            kinds = ".npy, .npz" + (", or a folder without a suffix for PNG" if len(self.pixels.shape) == 3 else "")
            raise InputError(f"decompress: {out}: the file holds an array; give a name that ends in {kinds}")

    def write(self, exact: np.ndarray, out: Output) -> None:
        """An .npy, an .npz with ``images`` or ``x``, or a folder of PNG; zeros and ones are black and white there."""
        kind = out.path.suffix.lower()
        if kind:
            with out.file() as temporary, temporary.open("wb") as file:
                if kind == ".npy":
                    np.save(file, exact, allow_pickle=False)
                else:
                    name = "images" if len(self.pixels.shape) == 3 else "x"
                    np.savez_compressed(file, allow_pickle=False, **{name: exact})
            return
        from PIL import Image

        first = exact.ndim == 4 and exact.shape[1:] == tuple(self.pixels.shape)
        images = (np.moveaxis(exact, 1, 3) if first else exact).astype(np.uint8)
        binary = self.pixels.levels == 2 and images.max() <= 1
        with out.folder() as folder:
            for i, image in enumerate(images * np.uint8(WHITE if binary else 1)):
                Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).save(folder / f"{i:06}.png")


def _black_and_white(values: np.ndarray) -> bool:
    """Return whether numbers are all 0 or 255, and 255 among them."""
    if values.dtype.kind == "f" and np.signbit(values).any():
        return False  # a zero with a sign would lose it
    return bool(((values == 0) | (values == WHITE)).all() and (values == WHITE).any())


class Texts:
    """The codec of a text run; it takes UTF-8 files, whose lines are its data."""

    def __init__(self, path: Path) -> None:
        self.opened = TextRun(path, "cpu")
        tokenizer = self.opened.tokenizer.to_json()
        self.model, self.fingerprint = prepared(self.opened.model), fingerprint(self.opened.model, tokenizer)

    def coder(self, header: Header) -> BitsBack:
        return BitsBack(self.model, TextCode(self.model, header.coding.tile), header.coding)

    def read(self, source: str, coding: Coding) -> Given:
        r"""Lines end at ``\n`` alone; every other character, also of an empty line, belongs to a text."""
        text = _text(source)
        lines = text.split("\n")
        closed = lines[-1] == ""
        lines = lines[:-1] if closed else lines
        tokens = self.opened.tokenizer.encode_batch(lines)
        for number, (line, ids) in enumerate(zip(lines, tokens, strict=True), start=1):
            if self.opened.tokenizer.decode(ids) != line:
                raise InputError(
                    f"compress: {source}, line {number}: the run's tokenizer ({self.opened.tokenizer.kind}) cannot "
                    "write it back exactly; use a run trained with --tokenizer bytes, chars or bpe"
                )
        values, cut = pieces(tokens, self.model.config.max_length)
        notes: dict[str, Any] = ({} if closed else {"open": 1}) | ({"cut": cut} if cut else {})
        header = Header(self.fingerprint, coding, torch.__version__, "text", (len(lines),), notes)
        return Given(text, values, header, len(text.encode()))

    def restore(self, values: list[list[int]], header: Header) -> str:
        tokens = join_pieces(values, header.notes.get("cut", []))
        lines = [self.opened.tokenizer.decode(ids) for ids in tokens]
        return "\n".join(lines) + ("" if header.notes.get("open") else "\n")

    def check_name(self, out: Path) -> None:
        if out.suffix.lower() in (".npy", ".npz", ".png") or not out.suffix:
            raise InputError(f"decompress: {out}: the file holds text; give a name that ends in .txt")

    def write(self, exact: str, out: Output) -> None:
        """One UTF-8 file."""
        out.write_text(exact)


def _text(source: str) -> str:
    if source == BUILT_IN:
        from experiments.python_docs import sentences

        return "\n".join(sentences()) + "\n"
    path = Path(source)
    if not path.is_file():
        raise InputError(f"compress: {path} is no file; give a UTF-8 file of texts, or {BUILT_IN}")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"compress: {path}: byte {error.start} is no UTF-8 text; convert the file") from error
    if not text:
        raise InputError(f"compress: {path} is empty; there is nothing to write")
    return text


def described(header: Header) -> dict[str, Any]:
    """A header in words, for a result."""
    return {
        "fingerprint": header.fingerprint.hex(),
        "blocks": len(header.blocks),
        "particles": header.coding.particles,
        "tile": header.coding.tile,
        "dtype": header.dtype,
        "shape": json.loads(json.dumps(header.shape)),
    }
