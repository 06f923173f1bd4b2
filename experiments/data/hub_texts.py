"""Texts of data sets of the Hugging Face hub: ``hub:NAME[:SPLIT[:COLUMN]]``.

``NAME`` may also be a local folder of data files, which the same library reads.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from experiments.data.columns import JUDGED, Sheet
from experiments.data.hub_sets import SPLIT, load_split
from experiments.data.pair_files import Row
from experiments.data.sources import HUB
from experiments.data.text_columns import texts_in
from univae.errors import InputError
from univae.text.lines import Removed

__all__ = ["hub_texts"]

PARTS = 3  # name, split, column


def hub_texts(source: str, column: str, removed: Removed) -> Iterator[str]:
    """Yield the texts of a column of a split; empty ones are counted in ``removed``.

    Args:
        source: ``hub:NAME``, ``hub:NAME:SPLIT`` or ``hub:NAME:SPLIT:COLUMN``.
        column: the column, where ``source`` does not name it; empty: the only column of texts.
        removed: counts what is left out.

    Raises:
        InputError: while reading: the library is missing, the data set cannot be loaded, or the
            column not be found.
    """
    name, split, named = _parts(source)
    if named and column and named != column:
        raise InputError(f"--column {column}: {source} names another column; leave one out")
    data = load_split(source, name, split or SPLIT)
    names = tuple(data.column_names)
    rows = _rows(source, data, names)
    head = list(islice(rows, JUDGED))
    if not head:
        raise InputError(f"{source}: the split {split or SPLIT} is empty; choose another one")
    yield from texts_in(Sheet(Path(source), names, head, rows), named or column, removed)


def _parts(source: str) -> tuple[str, str, str]:
    parts = source.removeprefix(HUB).split(":")
    if not parts[0] or len(parts) > PARTS:
        raise InputError(f"{source}: give hub:NAME, hub:NAME:SPLIT or hub:NAME:SPLIT:COLUMN")
    name, split, column = [*parts, "", ""][:PARTS]
    return name, split, column


def _rows(source: str, data: Any, names: tuple[str, ...]) -> Iterator[Row]:
    for number, record in enumerate(data, start=1):
        yield Row(f"{source}, row {number}", [record[name] for name in names], names)
