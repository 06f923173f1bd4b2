"""Texts of data sets of the Hugging Face hub: ``hub:NAME[:SPLIT[:COLUMN]]``.

``NAME`` may also be a local folder of data files, which the same library reads.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from experiments.data.columns import JUDGED, Sheet
from experiments.data.pair_files import Row
from experiments.data.sources import HUB
from experiments.data.text_columns import texts_in
from univae.errors import InputError
from univae.text.lines import Removed

__all__ = ["hub_texts"]

SPLIT = "train"  # where none is named
PARTS = 3  # name, split, column
LONGEST_REASON = 160  # characters of the library's message


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
    data = _loaded(source, name, split or SPLIT)
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


def _loaded(source: str, name: str, split: str) -> Any:
    """Return a split of a data set."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError(f"{source}: needs the extra hub: pip install 'univae[hub]'") from error
    try:
        return load_dataset(name, split=split)
    except Exception as error:  # the library raises many classes, also those of its own parts
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        raise InputError(f"{source}: cannot be loaded ({reason}); check name and split") from error


def _rows(source: str, data: Any, names: tuple[str, ...]) -> Iterator[Row]:
    for number, record in enumerate(data, start=1):
        yield Row(f"{source}, row {number}", [record[name] for name in names], names)
