"""The registry of file formats of images and tables, ``READERS``, and the one function that reads.

To add a format, write a class that recognises and reads its files, and list it before the last row,
which reads every file that no other row recognises.
"""

import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from experiments.data.arrays import Data
from experiments.data.built_in import BUILT_IN
from experiments.data.hub_images import hub_images
from experiments.data.hub_sets import is_hub
from experiments.data.idx_files import IdxFile, label_name
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import refuse_unused
from experiments.data.memory_bounds import require_readable_file
from experiments.data.numpy_files import NpyFile, NpzFile
from experiments.data.remote import is_remote, local_copy
from experiments.data.table_files import Schema, TableFile
from univae.errors import InputError

__all__ = ["FORMATS", "READERS", "SOURCES", "Reader", "read", "read_training_set"]

# What NumPy, zlib and Python's parsers raise for damaged files, besides the readers' InputError.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,  # NotImplementedError too: a compression method that zipfile lacks
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)


@runtime_checkable
class Reader(Protocol):
    """A file format of images or tables."""

    @property
    def summary(self) -> str:
        """The format in a few words, for messages."""
        ...

    def recognises(self, path: Path) -> bool:
        """Return whether an existing file or folder is of this format, without opening it."""
        ...

    def read(self, path: Path) -> Data:
        """Return the data set.

        Raises:
            InputError: the file breaks a rule; the message names it. For damaged files, also the
                exceptions that :data:`DAMAGE` lists.
        """
        ...


# The first format that recognises a file reads it.
IMAGE_FILES = "images"
TABLES = "table"
IDX = "idx"
READERS: Mapping[str, Reader] = {
    IMAGE_FILES: ImageFiles(),
    "npz": NpzFile(),
    "npy": NpyFile(),
    TABLES: TableFile(),
    IDX: IdxFile(),
}


def _alternatives() -> str:
    *summaries, last = [reader.summary for reader in READERS.values()]
    return f"{', '.join(summaries)} or {last}"


FORMATS = _alternatives()

# The help of an option that names a data set.
SOURCES = (
    f"{FORMATS}; hub:NAME[:SPLIT] of images; a file s3://...; "
    f"or a built-in set: {', '.join(BUILT_IN)}"
)


def read(
    source: str | Path, images: ImageFiles | None = None, schema: Schema | None = None
) -> Data:
    """Read a data set; a built-in name takes precedence over a file of that name.

    Folders and archives hold images, whose subfolders are classes; .npz holds ``images`` or ``x``
    (else its first array) and maybe ``labels`` or ``y``; .npy above 256 MiB is mapped; IDX takes
    its labels from the file beside it; .csv, .tsv and .parquet have named columns.

    Args:
        source: a file, a folder, a built-in name, or ``hub:NAME[:SPLIT]`` for images.
        images: the reader of image files; None: without options, and in memory.
        schema: encodes named columns: that of a trained model, or a choice of columns and kinds;
            None: inferred.

    Raises:
        InputError: there is no such file, or it is damaged, or of another format.
    """
    if str(source) in BUILT_IN:
        return BUILT_IN[str(source)].load()
    if is_hub(str(source)):
        return (images or ImageFiles()).read_set(hub_images(str(source)))

    if not str(source):
        raise InputError(f"the name of the data is empty; give {FORMATS}")
    with local_copy(source) as path:
        reader = _reader(path, images, schema)
        data = _read_by(reader, path)
    if reader is READERS[IDX] and is_remote(source) and label_name(path.name) != path.name:
        note = f"{path.name}: labels beside a file of an object store are not read; copy both files"
        return replace(data, notes=(*data.notes, note))
    return data


def _read_by(reader: Reader, path: Path) -> Data:
    """Return the data set of a file; raise :class:`InputError` where it is damaged."""
    try:
        return reader.read(path)
    except InputError:
        raise
    except DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}); give {FORMATS}") from error


def _reader(path: Path, images: ImageFiles | None, schema: Schema | None) -> Reader:
    """Return the reader of a file or folder: ``images`` of image files, of tables by ``schema``."""
    if not path.exists():
        raise InputError(
            f"{path} is no file, folder or built-in set ({', '.join(BUILT_IN)}); give {FORMATS}"
        )
    reader = next(reader for reader in READERS.values() if reader.recognises(path))
    require_readable_file(path, pipes=reader is READERS[IDX])
    if images is not None and reader is READERS[IMAGE_FILES]:
        return images
    if schema is not None and reader is READERS[TABLES]:
        return TableFile(schema)
    return reader


def read_training_set(
    source: str, images: ImageFiles, option: str = "--data", schema: Schema | None = None
) -> Data:
    """Read a data set for training, with the options of image files where it consists of them.

    Raises:
        InputError: as :func:`read`; or options of image files are given for other data.
    """
    data = read(source, images, schema)
    is_file = source not in BUILT_IN and READERS[IMAGE_FILES].recognises(Path(source))
    if not (is_file or is_hub(source)):
        refuse_unused(images.reading, f"{option} {source}")
    return data
