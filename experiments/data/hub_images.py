"""Images of a data set of the Hugging Face hub, as the files of a folder of its classes."""

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from experiments.data.hub_sets import load_split, name_and_split
from experiments.data.image_archives import FileSet, StoredFile
from univae.errors import InputError

__all__ = ["hub_images"]


def hub_images(source: str) -> FileSet:
    """Return the encoded images of ``hub:NAME[:SPLIT]``, named ``CLASS/NUMBER.png``.

    The number is that of the row, the class the name of its label; without labels there is none.
    The images may be of any format; they are read from the data set on demand.

    Raises:
        InputError: the data set cannot be loaded, or has not exactly one column of images.
    """
    name, split = name_and_split(source)
    rows = load_split(source, name, split)
    from datasets import Image

    columns = [column for column, kind in rows.features.items() if isinstance(kind, Image)]
    if len(columns) != 1:
        raise InputError(
            f"{source} must have one column of images; it has {len(columns)} among "
            f"{', '.join(rows.column_names)}"
        )
    encoded = rows.select_columns(columns).cast_column(columns[0], Image(decode=False))
    files = {}
    for number, folder in enumerate(_class_folders(rows)):
        opener = partial(_open, encoded, number, columns[0])
        files[f"{folder}{number:07}.png"] = StoredFile(opener, 0, 0)
    stamp = (rows._fingerprint,)
    return FileSet(Path(source), files, name=Path(name).name, stamp=stamp)


def _class_folders(rows: Any) -> list[str]:
    """Return the class of every row as the name of a folder with a slash, or empty names."""
    from datasets import ClassLabel

    columns = [column for column, kind in rows.features.items() if isinstance(kind, ClassLabel)]
    if not columns:
        return [""] * len(rows)
    names = rows.features[columns[0]].names
    folders = [name.replace("/", "-").lstrip(".") for name in names]
    return [f"{folders[label]}/" for label in rows[columns[0]]]


def _open(rows: Any, number: int, column: str) -> BytesIO:
    image = rows[number][column]
    content = image["bytes"]
    return BytesIO(Path(image["path"]).read_bytes() if content is None else content)
