"""Decoded images in a file, so that a large folder is decoded once and never held in memory.

An entry is a folder of ``images.npy`` and ``record.json``, written under another name and renamed
when it is complete. Its record holds a key of the files and of the options they were read with; an
entry with another key is out of date, and is written again.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from experiments.data.arrays import Data
from experiments.data.image_archives import FileSet
from experiments.data.image_options import ImageReading
from experiments.data.own_folders import make_own
from experiments.data.sources import INPUTS
from univae.atomic_files import replacing_folder
from univae.checkpoint import JsonObject, read_json, write_json
from univae.disk_errors import reserve
from univae.errors import InputError
from univae.mapped_files import map_array

__all__ = ["CacheEntry", "ImageCache", "cache_of_run"]

LARGE = 256 * 2**20  # bytes of decoded images from which a run's folder holds a cache
VERSION = 1  # of the entries; another one is out of date
IMAGES = "images.npy"
RECORD = "record.json"
LOCK = ".lock"
DIGEST_BYTES = 8
MARGIN = 2**26  # bytes of a disk that a cache leaves free


@dataclass(frozen=True)
class ImageCache:
    """A folder of entries, one for each source and way to read it."""

    folder: Path
    least_bytes: int = 0  # of decoded images; smaller sets stay in memory

    def entry(self, source: FileSet, names: Sequence[str], reading: ImageReading) -> "CacheEntry":
        """Return the entry of some images of a source, which may not exist yet."""
        options = asdict(reading) | {"cache": "", "exact": reading.is_exact}
        place = _digest({"source": str(source.path.resolve()), "options": options})
        name = f"{source.name}-{place}"
        key = _digest(_state(source, names) | {"options": options})
        return CacheEntry(self.folder / name, key, self.least_bytes)


@dataclass(frozen=True)
class CacheEntry:
    """One data set in a cache."""

    folder: Path
    key: str  # changes with the files, the options and the version of the decoder
    least_bytes: int

    def load(self) -> Data | None:
        """Return the data set, its images mapped; None where it is missing or out of date."""
        try:
            record = read_json(self.folder / RECORD)
            if record["key"] != self.key:
                return None
            values = map_array(self.folder / IMAGES)
            return _restored(values, record["data"])
        except (OSError, EOFError, InputError, KeyError, TypeError, ValueError):
            return None  # missing or damaged: it is written again

    def is_large(self, shape: Sequence[int]) -> bool:
        """Return whether images of a shape, uint8, are to be cached."""
        return int(np.prod(shape, dtype=object)) >= self.least_bytes

    @contextmanager
    def writing(self) -> Iterator["NewEntry"]:
        """Yield an entry that replaces this one when the block ends, under the cache's lock."""
        with replacing_folder(self.folder) as folder:
            yield NewEntry(folder, self.key)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process writes into the cache, and let none while the block runs.

        On a system without file locks nothing is excluded.
        """
        _create(self.folder.parent)
        with (self.folder.parent / LOCK).open("a") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            except (ImportError, OSError):
                pass
            yield


@dataclass(frozen=True)
class NewEntry:
    """An entry that is being written."""

    folder: Path
    key: str

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a new array of zeros, uint8, mapped from the entry's file.

        Raises:
            InputError: the disk has not enough free space.
        """
        size = int(np.prod(shape, dtype=object))
        free = shutil.disk_usage(self.folder).free
        if size + MARGIN > free:
            raise InputError(
                f"{self.folder.parent}: the decoded images take {size / 2**20:.0f} MB, "
                f"{free / 2**20:.0f} MB are free; give another folder with --cache, or a smaller "
                "--size"
            )
        path = self.folder / IMAGES
        images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        reserve(path, path.stat().st_size)
        return images

    def finish(self, data: Data) -> None:
        """Write the record of the data set whose images are in the array of :meth:`allocate`.

        The file is written again where images at its end were left out.
        """
        stored = map_array(self.folder / IMAGES)
        if isinstance(data.values, np.memmap):
            data.values.flush()
        if len(data) < len(stored):
            shorter = self.folder / "shorter.npy"
            np.save(shorter, data.values, allow_pickle=False)
            shorter.replace(self.folder / IMAGES)
        write_json(self.folder / RECORD, {"key": self.key, "data": _record(data)})


def cache_of_run(reading: ImageReading, run: Path) -> ImageCache:
    """Return the cache that ``--cache`` names, by default that of large sets in a run's folder."""
    if reading.cache:
        return ImageCache(Path(reading.cache))
    return ImageCache(run / INPUTS, LARGE)


def _create(folder: Path) -> None:
    try:
        if folder.name == INPUTS:
            make_own(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; give another folder with --cache") from error


def _state(source: FileSet, names: Sequence[str]) -> JsonObject:
    """Return what changes when the files of a source do."""
    import PIL

    files = [(n, source.files[n].size, source.files[n].modified) for n in names]
    return {"version": VERSION, "decoder": PIL.__version__, "archive": source.stamp, "files": files}


def _digest(state: Mapping[str, object]) -> str:
    content = json.dumps(state, sort_keys=True).encode()
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def _record(data: Data) -> JsonObject:
    """Return all fields of a data set of images but its values."""
    return {
        "levels": data.levels,
        "labels": data.labels,
        "name": data.name,
        "class_names": data.class_names,
        "notes": data.notes,
        "one_bit": data.one_bit,
    }


def _restored(values: np.ndarray, record: JsonObject) -> Data:
    labels = record["labels"]
    data = Data(values, record["levels"], None, record["name"], "images")
    return replace(
        data,
        labels=None if labels is None else np.asarray(labels),
        class_names=tuple(record["class_names"]),
        notes=tuple(record["notes"]),
        one_bit=record["one_bit"],
    )
