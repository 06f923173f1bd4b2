"""The data record: an array of images or table rows, with its levels, labels, units and notes.

Images are (N, channels, height, width) and tables (N, columns). Whole numbers 0..levels-1 are
uint8; other numbers are real and ``levels`` is None. The values are neither scaled nor shuffled. A
table with named columns has its schema, and NaN for missing cells.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from density.tables.columns import Columns
from density.tables.raw import RawTable
from univae.dtypes import is_integer_array
from univae.errors import InputError
from univae.mapped_files import release_pages

__all__ = ["CHUNK", "Data", "Kind", "all_alike", "refuse_beyond_float32", "row_chunks"]

CHUNK = 4096  # rows read or changed at once, so that a mapped file need not fit into memory
LARGE_READ = 2**22  # bytes after which the memory of a mapped file is given back
IMAGE_AXES = 3  # channels, height, width

Kind = Literal["images", "table"]


@dataclass(frozen=True)
class Data:
    """A data set; ``values`` may be mapped from a file, so read rows through :meth:`batch`."""

    values: np.ndarray  # (N, channels, height, width) or (N, columns)
    levels: int | None  # of whole numbers 0..levels-1; None for real numbers
    labels: np.ndarray | None  # (N,) whole numbers, or real ones of a regression
    name: str
    kind: Kind
    # the array as stored in its file, where axes or dtype differ from ``values``
    original: np.ndarray | None = None
    # the built-in set whose images are the channels here, and whose labels are the decimal digits
    # of the labels here
    channels_of: str = ""
    notes: tuple[str, ...] = ()  # what the reader left out or assumed, a line each
    centre: np.ndarray | None = None  # subtracted from a batch, one number or one per column
    spread: np.ndarray | None = None  # divides a batch after that
    # read from images of 1 bit a pixel: 1 is white, also beside images of more levels
    one_bit: bool = False
    columns: Columns | None = None  # the schema of a table with named columns
    table: RawTable | None = None  # its cells as they were read
    class_names: tuple[str, ...] = ()  # of the labels 0, 1, ...; empty where they have none

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row: (channels, height, width) or (columns,)."""
        return self.values.shape[1:]

    @property
    def is_images(self) -> bool:
        """Whether a row is an image, of shape (channels, height, width)."""
        return len(self.shape) == IMAGE_AXES

    def batch(self, rows: Sequence[int] | np.ndarray | slice) -> Tensor:
        """Return these rows as floats of the default dtype: level numbers, or real numbers.

        ``centre`` is subtracted and ``spread`` divided by in float64 before the cast: float32 has
        seven digits, which a column of mean 1e9 and deviation 1 would lose.
        """
        values = np.array(self.values[rows])
        if values.nbytes >= LARGE_READ:
            release_pages(self.values)
        if self.centre is not None:
            values = values.astype(np.float64) - self.centre
        if self.spread is not None:
            values = values / self.spread

        return torch.from_numpy(values).to(torch.get_default_dtype())

    def noted(self, *notes: str) -> "Data":
        """Return the same data with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def row_chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield consecutive blocks of at most :data:`CHUNK` rows; memory is that of one, if mapped."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
        release_pages(values)


def all_alike(data: Data) -> bool:
    """Return whether all rows are equal."""
    first = data.values[:1]
    return all(bool((chunk == first).all()) for chunk in row_chunks(data.values))


def refuse_beyond_float32(data: Data) -> None:
    """Raise :class:`InputError` for a row that overflows float32 after ``centre`` is subtracted."""
    if is_integer_array(data.values):
        return

    largest = np.finfo(np.float32).max
    start = 0
    for chunk in row_chunks(data.values):
        centred = chunk if data.centre is None else chunk - data.centre
        overflows = (np.abs(centred) > largest).reshape(len(chunk), -1).any(1)
        if overflows.any():
            row = int(overflows.argmax())
            value = np.nanmax(np.abs(chunk[row]))
            raise InputError(
                f"{data.name}: row {start + row} holds {value:.3g}, more than the {largest:.2g} "
                "of float32; rescale it"
            )
        start += len(chunk)
