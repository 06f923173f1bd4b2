"""Images and tables from wherever they are: a folder, .zip, .npz, .npy, IDX(.gz), or a built-in set by its name.

Images become (N, channels, height, width) and tables (N, columns). Whole numbers 0..levels-1 stay
what they are, as uint8; other numbers are real and ``levels`` is None. Nothing is scaled or
shuffled, and what is left out or assumed is a line of ``notes``.
"""

import gzip
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from experiments.data.image_files import read_images
from experiments.data.sources import resolved
from univae.errors import InputError

__all__ = [
    "BUILT_IN",
    "Data",
    "absolute_sources",
    "all_alike",
    "binarise",
    "describe",
    "fingerprint",
    "read",
    "redraw",
    "refuse_beyond_float32",
    "without_rows",
]

CHUNK = 4096  # data looked at or changed at once, so that a mapped file need not fit into memory
HASHED = 2**24  # bytes hashed at once
EXACT = 2**53  # the largest whole number below which float64 holds them all
# What NumPy, zlib and Python's own parsers raise on damaged files, beside what the readers here
# raise.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)
KINDS = "a folder or .zip of PNG or JPEG images, .npz, .npy or IDX(.gz)"


@dataclass(frozen=True)
class Data:
    """A data set.

    ``values`` may be mapped from a file, so take rows of it through :meth:`batch`.
    """

    values: np.ndarray  # (N, channels, height, width) or (N, columns)
    levels: int | None  # of whole-number data 0..levels-1; None for real numbers
    labels: np.ndarray | None  # (N,) whole numbers, or real ones of a regression
    name: str
    kind: Literal["images", "table"]
    # the array as its file holds it, where it holds another form of the values
    given: np.ndarray | None = None
    # the built-in set whose data are these channels, and whose labels the digits of these labels
    channels_of: str = ""
    notes: tuple[str, ...] = ()  # what the reader left out or assumed, a line each
    centre: np.ndarray | None = None  # subtracted from a batch, a number per column or one for all
    spread: np.ndarray | None = None  # what a batch is divided by after that
    # read from images of 1 bit a pixel, whose 1 is white whatever the levels of others
    one_bit: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.values.shape[1:]

    @property
    def is_images(self) -> bool:
        """Whether a row is an image, of shape (channels, height, width)."""
        return len(self.shape) == 3

    def batch(self, rows: Sequence[int] | np.ndarray | slice) -> Tensor:
        """Return these rows as floats of the default dtype: level numbers, or real numbers.

        ``centre`` is subtracted and ``spread`` divided by in float64, before the numbers are cast:
        float32 holds seven digits, which a column of mean 1e9 and deviation 1 would lose.
        """
        values = np.array(self.values[rows])
        if self.centre is not None:
            values = values.astype(np.float64) - self.centre
        if self.spread is not None:
            values = values / self.spread
        return torch.from_numpy(values).to(torch.get_default_dtype())

    def noted(self, *notes: str) -> "Data":
        """Return the same data with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def read(source: str | Path) -> Data:
    """Read a data set; a built-in name goes before a file of that name.

    Folders and .zip hold PNG and JPEG images, subfolders being classes; .npz holds ``images`` or
    ``x`` (else its first array) and maybe ``labels`` or ``y``; .npy is mapped, not loaded; IDX
    takes its labels from the file beside it. :class:`InputError` for anything else, in a line that
    says what to do.
    """
    if str(source) in BUILT_IN:
        return BUILT_IN[str(source)]()
    path = Path(source)
    if not path.exists():
        raise InputError(
            f"read: {path} is no file, folder or built-in set ({', '.join(BUILT_IN)}); give {KINDS}"
        )
    readers = {".zip": _pictures, ".npz": _npz, ".npy": _npy}
    reader = _pictures if path.is_dir() else readers.get(path.suffix.lower(), _idx)
    try:
        return reader(path)
    except InputError:
        raise
    except DAMAGE as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"read: {path} cannot be read ({what}); give {KINDS}") from error


def fingerprint(data: Data) -> str:
    """Return 128 bits of BLAKE2b, in hexadecimal, of the values and labels, dtypes and shapes."""
    digest = blake2b(digest_size=16)
    for array in (data.values, data.labels):
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        rows = max(1, HASHED * len(array) // max(1, array.nbytes))
        for start in range(0, len(array), rows):
            part = np.ascontiguousarray(array[start : start + rows])
            digest.update(part.reshape(-1).view(np.uint8).data)

    return digest.hexdigest()


def describe(data: Data, source: str) -> dict[str, Any]:
    """Return what a run folder keeps of its data: source, fingerprint, count, shape, units, notes.

    ``centre`` and ``spread`` are the numbers of :meth:`Data.batch`, null where there are none;
    ``classes`` counts the different whole-number labels.
    """
    classes = None
    if data.labels is not None and data.labels.dtype.kind in "bui":
        classes = len(np.unique(data.labels))

    return {
        "source": resolved(source, BUILT_IN),
        "fingerprint": fingerprint(data),
        "count": len(data),
        "name": data.name,
        "kind": data.kind,
        "shape": data.shape,
        "levels": data.levels,
        "dtype": data.values.dtype.name,
        "classes": classes,
        "centre": data.centre,
        "spread": data.spread,
        "notes": data.notes,
    }


def without_rows(record: Mapping[str, Any]) -> Data:
    """Return a data set of no rows, of the kind, shape and units that :func:`describe` recorded."""
    try:
        centre, spread = (
            None if record[key] is None else np.asarray(record[key], np.float64) for key in _UNITS
        )
        values = np.empty((0, *record["shape"]), np.dtype(record["dtype"]))
        return Data(
            values,
            record["levels"],
            None,
            record["name"],
            record["kind"],
            centre=centre,
            spread=spread,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"data.json: not a record of images or a table ({error}); the run folder is damaged"
        ) from error


_UNITS = ("centre", "spread")


def absolute_sources(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose ``data``, ``validation`` and ``features`` are absolute paths.

    A resumed run that version 0.1.0 started keeps them as they are, for they are compared as they
    were typed.
    """
    out = Path(config["out"])
    if config["resume"] and (out / "config.json").exists() and not (out / "data.json").exists():
        return dict(config)
    changed = dict(config)
    for name in ("data", "validation"):
        if name in config:
            changed[name] = resolved(config[name], BUILT_IN)
    if "features" in config and ":" not in config["features"]:
        changed["features"] = resolved(config["features"], ("auto",))

    return changed


def all_alike(data: Data) -> bool:
    """Return whether every row equals the first."""
    return all(bool((part == data.values[:1]).all()) for part in _chunks(data.values))


def refuse_beyond_float32(data: Data) -> None:
    """Raise :class:`InputError` for a row that, less ``centre``, float32 does not hold."""
    if data.values.dtype.kind in "bui":
        return
    most = np.finfo(np.float32).max
    start = 0
    for part in _chunks(data.values):
        centred = part if data.centre is None else part - data.centre
        beyond = (np.abs(centred) > most).reshape(len(part), -1).any(1)
        if beyond.any():
            row = int(beyond.argmax())
            value = np.abs(part[row]).max()
            raise InputError(
                f"{data.name}: row {start + row} holds {value:.3g}, more than the {most:.2g} of float32; rescale it"
            )
        start += len(part)


def _chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def binarise(data: Data, how: Literal["static", "threshold"], seed: int = 0) -> Data:
    r"""Turn grey into black and white once and for all: another data set, with another likelihood.

    ``static`` draws each pixel, 1 with probability grey / (levels - 1), from ``seed``;
    ``threshold`` is 1 above half of levels - 1. For fresh draws at every visit, which is what most
    published numbers train on, see :func:`redraw`.

    References:
        On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008)
    """
    top = _top(data.levels)
    generator = np.random.default_rng(seed % 2**64)
    binary = np.empty(data.values.shape, np.uint8)
    for start in range(0, len(data), CHUNK):
        grey = data.values[start : start + CHUNK] / np.float32(top)
        bar = generator.random(grey.shape, np.float32) if how == "static" else np.float32(0.5)
        binary[start : start + CHUNK] = grey > bar
    return replace(
        data, values=binary, levels=2, name=f"{data.name}, {how} binarisation", given=None
    )


def redraw(x: Tensor, levels: int | None) -> Tensor:
    """Draw each pixel of a batch anew, 1 with probability grey / (levels - 1), from PyTorch's global generator."""
    return torch.bernoulli(x / _top(levels))


def _top(levels: int | None) -> int:
    if levels is None:
        raise InputError(
            "binarise: needs grey levels; got real numbers; choose a likelihood for real data"
        )
    return levels - 1


def _set(
    values: ArrayLike, labels: ArrayLike | None, name: str, who: str, notes: Sequence[str] = ()
) -> Data:
    """Check an array and names its axes: uint8 and bool hold levels, and so do whole numbers in images."""
    array = np.asanyarray(values)
    if array.dtype.kind not in "buif":
        raise InputError(
            f"read: {who} must hold numbers; got dtype {array.dtype}; save whole or real numbers"
        )
    if array.ndim not in (2, 3, 4) or not array.size:
        raise InputError(
            f"read: {who} must be (N, columns), (N, height, width), (N, channels, height, width) or (N, height, width, "
            f"channels), all positive; got {array.shape}; reshape it"
        )
    array = _channels_first(array, who)
    levels = _levels(array, who)
    notes = (*notes, *_assumed(np.asanyarray(values), levels, name))
    if levels is not None:
        array = array.astype(np.uint8, copy=False)
    elif array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    kind: Literal["images", "table"] = "table" if array.ndim == 2 else "images"
    checked = _labels(labels, len(array), who)
    return Data(array, levels, checked, name, kind, np.asanyarray(values), notes=notes)


def _assumed(array: np.ndarray, levels: int | None, name: str) -> list[str]:
    """Return a note for what the numbers of a file leave open."""
    notes = []
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] in (1, 3):
        notes.append(
            f"{name}: of the shape {array.shape}, axis 1 is taken for the channels, not axis 3"
        )
    if levels is not None and array.dtype.kind == "f":
        what = "black and white" if levels == 2 else "levels of 0..255"
        notes.append(
            f"{name}: real numbers that are all whole, {array.min():g}..{array.max():g}, taken for {what}"
        )
    if (
        levels is None
        and array.dtype.kind in "ui"
        and max(-int(array.min()), int(array.max())) > EXACT
    ):
        notes.append(f"{name}: whole numbers beyond 2**53 are rounded to float64")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        notes.append(f"{name}: numbers of {8 * array.dtype.itemsize} bits are rounded to float64")
    return notes


def _channels_first(array: np.ndarray, who: str) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] not in (1, 3):
        if array.shape[3] not in (1, 3):
            raise InputError(
                f"read: {who} must have 1 or 3 channels, first or last; got {array.shape}; convert it"
            )
        return np.moveaxis(array, 3, 1)
    return array


def _levels(array: np.ndarray, who: str) -> int | None:
    """2 for zeros and ones, 256 for other levels, None for real numbers.

    Refuses NaN and levels out of range.
    """
    # NaN if there is one
    low = array.min()
    high = array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = next(i for i in range(len(array)) if not np.isfinite(array[i]).all())
        raise InputError(
            f"read: {who} must be finite; got NaN or infinity in datum {bad}; drop or fill it"
        )
    if array.ndim == 2 and array.dtype not in (np.uint8, np.bool_):
        return None
    within = low >= 0 and high <= 255
    if array.dtype.kind == "f":
        if not (within and all(_whole(array[i : i + CHUNK]) for i in range(0, len(array), CHUNK))):
            return None
    elif not within:
        raise InputError(
            f"read: whole numbers in {who} must be levels 0..255; got {low}..{high}; rescale them or save real numbers"
        )
    return 2 if high <= 1 else 256


def _whole(array: np.ndarray) -> bool:
    return bool((array == np.round(array)).all())


def _labels(labels: ArrayLike | None, count: int, who: str) -> np.ndarray | None:
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "buif":
        raise InputError(
            f"read: labels of {who} must be {count} numbers; got {array.dtype} of shape {array.shape}; drop them"
        )
    return array


def _npy(path: Path) -> Data:
    return _set(np.load(path, mmap_mode="r", allow_pickle=False), None, path.stem, str(path))


def _npz(path: Path) -> Data:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        labels = next((name for name in ("labels", "y") if name in arrays.files), None)
        names = [name for name in arrays.files if name != labels]
        if not names:
            raise InputError(f"read: {path} holds no array of data; save one as 'images' or 'x'")
        values = next((name for name in ("images", "x") if name in names), names[0])
        left_out = [name for name in names if name != values]
        notes = []
        if left_out:
            notes.append(
                f"{path.name}: array {values!r} is read; left out: {', '.join(map(repr, left_out))}"
            )
        who = f"{path}, array {values!r}"
        return _set(arrays[values], arrays[labels] if labels else None, path.stem, who, notes)


def _idx(path: Path) -> Data:
    """Read unsigned bytes, and the labels in a file beside it that says ``labels`` where this one says ``images``."""
    other = path.name.replace("images", "labels").replace("idx3", "idx1")
    beside = path.with_name(other)
    labels = None
    notes = []
    if other != path.name and beside.exists():
        labels = _idx_array(beside)
        notes.append(f"{path.name}: labels are read from {other} beside it")
    return _set(_idx_array(path), labels, path.name.split(".")[0], str(path), notes)


def _idx_array(path: Path) -> np.ndarray:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise InputError(
            f"read: {path} is neither an image set nor IDX of unsigned bytes; give {KINDS}"
        )
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise InputError(
            f"read: {path} should hold {math.prod(shape)} bytes of {shape}; got {len(content) - start}; copy it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _pictures(path: Path) -> Data:
    name = path.resolve().stem
    images = read_images(path)
    notes = tuple(f"{name}: {note}" for note in images.notes)
    return Data(
        images.values,
        images.levels,
        images.labels,
        name,
        "images",
        notes=notes,
        one_bit=images.levels == 2,
    )


def _digits() -> Data:
    from sklearn.datasets import load_digits

    found = load_digits()
    return Data(found.images.astype(np.uint8)[:, None], 17, found.target, "digits", "images")


def _table(name: str) -> Data:
    from sklearn import datasets

    values, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    return Data(values, None, labels, name, "table")


def _glyphs() -> Data:
    from experiments.data.glyphs import glyphs

    values, labels = glyphs()
    return Data(values, 256, labels, "glyphs", "images")


def _stacked_glyphs() -> Data:
    from experiments.data.glyphs import stacked

    values, labels = stacked()
    return Data(values, 256, labels, "stacked-glyphs", "images", channels_of="glyphs")


BUILT_IN: dict[str, Callable[[], Data]] = {
    "digits": _digits,  # 1,797 handwritten digits of 8x8 pixels and 17 levels
    "glyphs": _glyphs,  # 22,000 printed digits of 28x28 pixels, grey
    "stacked-glyphs": _stacked_glyphs,  # 30,000 images whose three channels are such digits: 1,000 known modes
    "breast_cancer": partial(_table, "breast_cancer"),
    "diabetes": partial(_table, "diabetes"),
    "iris": partial(_table, "iris"),
    "wine": partial(_table, "wine"),
}
