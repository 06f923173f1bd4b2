"""A folder or archive of image files as a data set: sorted by name, subfolders are classes."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from experiments.data.arrays import Data, row_chunks
from experiments.data.image_archives import FileSet, file_set, is_archive
from experiments.data.image_cache import CacheEntry, ImageCache, cache_of_run
from experiments.data.image_classes import class_labels, image_names
from experiments.data.image_decoding import ONE_BIT
from experiments.data.image_options import ExactReading, ImageReading, stored_reading
from experiments.data.image_stack import Plan, plan, stack
from univae.run_folder import RunFolder

__all__ = ["ImageFiles"]

WHITE = 255


@dataclass(frozen=True)
class ImageFiles:
    """Images of one size, of 2 levels where all files have 1 bit a pixel, otherwise of 256."""

    summary: ClassVar[str] = "a folder, .zip or .tar of images (PNG, JPEG, WebP, BMP, TIFF, GIF)"

    reading: ImageReading = field(default_factory=ImageReading)
    cache: ImageCache | None = None  # None: the images are held in memory

    @classmethod
    def for_run(cls, reading: ImageReading, run: Path) -> "ImageFiles":
        """Return the reader of the training set of a run; large sets are cached in its folder."""
        return cls(reading, cache_of_run(reading, run))

    @classmethod
    def of_run(cls, run: RunFolder) -> "ImageFiles":
        """Return the reader of images as those that a run was trained on."""
        return cls.for_run(stored_reading(run), run.path)

    @classmethod
    def exact(cls, run: RunFolder) -> "ImageFiles":
        """Return the reader of images for a lossless copy by the model of a run."""
        return cls(ExactReading.of(stored_reading(run)))

    def recognises(self, path: Path) -> bool:
        """Return whether this is a folder, or a file with the suffix of an archive."""
        return path.is_dir() or is_archive(path)

    def read(self, path: Path) -> Data:
        """Return the images in the order of their names; the first subfolders are classes.

        The levels are 0 and 1 if all files have 1 bit a pixel, otherwise 0..255, also where every
        pixel is black or white. Photographs are rotated upright; hidden files and files that are
        no images are left out, with notes.

        Raises:
            InputError: an image is damaged, has another size than the others, or loses information
                that the reading does not give up.
        """
        with file_set(path) as source:
            return self.read_set(source)

    def read_set(self, source: FileSet) -> Data:
        """Return the images of a set of files, as :meth:`read` does."""
        notes = list(source.notes)
        names = image_names(source, notes)
        entry = self.cache.entry(source, names, self.reading) if self.cache else None
        cached = entry.load() if entry else None
        if cached is not None:
            return cached
        images = plan(source, names, self.reading)
        if entry is not None and entry.is_large(images.shape):
            return _cached(images, notes, entry)
        return _data(images, notes, np.zeros(images.shape, np.uint8))


def _cached(images: Plan, notes: list[str], entry: CacheEntry) -> Data:
    """Decode a large set into its entry of the cache, unless another process has just done so."""
    with entry.locked():
        cached = entry.load()
        if cached is not None:
            return cached
        with entry.writing() as new:
            data = _data(images, notes, new.allocate(images.shape))
            new.finish(data)
        return entry.load() or data


def _data(images: Plan, notes: list[str], values: np.ndarray) -> Data:
    """Decode images into ``values``, and return them with their classes and all notes."""
    decoded = stack(images, values)
    classes = class_labels(decoded.names, images.source, notes)
    notes = [*notes, *decoded.notes, *_remark_notes(decoded.remarks, len(decoded.names))]
    is_binary = _is_black_and_white(decoded.values)
    one_bit = is_binary and decoded.remarks[ONE_BIT] == len(decoded.names)
    if one_bit:
        for chunk in row_chunks(decoded.values):
            chunk //= WHITE
    elif is_binary:
        notes.append(
            "every pixel is 0 or 255, read as 256 grey levels; --binarisation threshold makes it 2"
        )

    name = images.source.name
    return Data(
        decoded.values,
        2 if one_bit else WHITE + 1,
        classes.labels,
        name,
        "images",
        notes=tuple(f"{name}: {note}" for note in notes),
        one_bit=one_bit,
        class_names=classes.names,
    )


def _remark_notes(remarks: Counter[str], count: int) -> list[str]:
    notes = []
    for remark, number in remarks.items():
        if remark != ONE_BIT:
            notes.append(f"{number} of {count} images {remark}")
        elif number < count:
            notes.append(f"{number} of {count} images {remark}, read as the grey levels 0 and 255")
    return notes


def _is_black_and_white(values: np.ndarray) -> bool:
    images = chain.from_iterable(row_chunks(values))
    return all(bool(((image == 0) | (image == WHITE)).all()) for image in images)
