"""The texts of one column of a file of columns."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from experiments.data.column_kinds import is_missing
from experiments.data.columns import Sheet, open_sheet
from experiments.data.json_rows import brief, json_texts
from experiments.data.pair_files import Row
from univae.errors import InputError, brief_list
from univae.text.lines import Removed, inner_suffix

__all__ = ["column_texts", "texts_in"]

OPTION = "--column"


def column_texts(path: Path, column: str, removed: Removed) -> Iterator[str]:
    """Yield the texts of a column; empty cells are counted in ``removed``.

    A .json file that is one list of texts has one text in each of its elements.

    Args:
        path: a CSV, TSV, JSONL or JSON file.
        column: the name or the number, from 1, of the column; empty: the only column of texts.
        removed: counts blank lines and empty cells, and notes the header and the column.

    Raises:
        InputError: while reading: the file cannot be read; there is no such column, or it holds no
            texts; several columns hold texts, and none is named.
    """
    texts = json_texts(path) if inner_suffix(path) == ".json" else None
    if texts is not None:
        if column:
            raise InputError(
                f"{OPTION} {column}: {path} is one list of texts, without columns; leave it out"
            )
        yield from _of_rows(texts, removed)
        return
    yield from texts_in(open_sheet(path, removed, [column] if column else []), column, removed)


def _of_rows(rows: Iterable[Row], removed: Removed) -> Iterator[str]:
    """Yield the one text of each row; empty ones are counted in ``removed``."""
    for row in rows:
        text = str(row.cells[0])
        if is_missing(text):
            removed.empty_cells += 1
            continue
        yield _one_line(text, removed)


def texts_in(sheet: Sheet, column: str, removed: Removed) -> Iterator[str]:
    """Yield the texts of a column of an open file; see :func:`column_texts`."""
    index = sheet.find(column, OPTION) if column else _only_column(sheet, removed)
    sheet.require_text(index, f"choose another column; it has {sheet.listing()}")
    count = 0
    for row in sheet.rows():
        cell = row.cells[index] if index < len(row.cells) else None
        if is_missing(cell):
            removed.empty_cells += 1
            continue
        if not isinstance(cell, str):
            raise InputError(
                f"{row.where}: column {sheet.name(index)} holds {brief(cell)}, which is no text; "
                "correct it or drop the line"
            )
        count += 1
        yield _one_line(cell, removed)
    if not count:
        raise InputError(f"{sheet.path}: column {sheet.name(index)} holds no text")


def _only_column(sheet: Sheet, removed: Removed) -> int:
    """Return the only column that holds texts; note it where there are others."""
    texts = [i for i, kind in enumerate(sheet.kinds) if kind.is_text]
    if len(texts) != 1:
        number = f"{len(texts)} columns" if texts else "no column"
        example = sheet.name(texts[0]) if texts else "NAME"
        raise InputError(
            f"{sheet.path}: {number} may hold the texts; choose one: {sheet.path.name}:{example}, "
            f"or {OPTION} {example} in training and search; it has {sheet.listing()}"
        )
    if len(sheet.kinds) > 1:
        left_out = [sheet.name(i) for i in range(len(sheet.kinds)) if i != texts[0]]
        removed.remarks.append(
            f"{sheet.path}: texts in column {sheet.name(texts[0])}; left out {brief_list(left_out)}"
        )
    return texts[0]


def _one_line(text: str, removed: Removed) -> str:
    """Return a text with spaces for its line ends, which are counted."""
    ends = text.count("\n")
    if not ends:
        return text
    removed.line_ends += ends
    return " ".join(line.strip() for line in text.splitlines())
