"""Which columns of a file of pairs hold the similar texts, and which one their label.

In this order: the columns that ``--columns`` names; names that published data sets use
(:data:`NAMED`); published files without names (:data:`UNNAMED`); two columns of texts beside one of
labels and others of ids; all columns. A column of numbers or ids is never taken for a text.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from experiments.data.column_kinds import COLUMN_KINDS, NO_LABEL, is_missing, score_of
from experiments.data.columns import Sheet
from experiments.data.pair_files import Row, brief
from univae.checkpoint import JsonValue
from univae.errors import InputError
from univae.text.lines import Removed

__all__ = ["Layout", "layout_of", "picked_rows"]

# Names of the columns of similar texts; a cell may be a list of texts.
NAMED: Sequence[tuple[str, ...]] = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("sentence_A", "sentence_B"),
    ("sent1", "sent2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("anchor", "positive"),
    ("query", "positive"),
    ("query", "pos"),
    ("question", "answer"),
    ("query", "answer"),
    ("query", "passage"),
    ("s1", "s2"),
    ("q1", "q2"),
    ("set",),
    ("texts",),
)
LABELS = (
    "score", "label", "is_duplicate", "similarity_score", "similarity", "gold_label", "labels",
    "relatedness_score",
)  # fmt: skip
# Dissimilar texts, which training takes from the other pairs of a batch.
NEGATIVES = ("negative", "neg")


class Layout(NamedTuple):
    """The columns of a row's similar texts, and of their label, by index."""

    texts: tuple[int, ...]
    label: int | None = None


class Unnamed(NamedTuple):
    """A published file without a header: the form of its first cell, and its columns."""

    first_cell: re.Pattern[str]
    layout: Layout


# STS Benchmark: genre, file, year, number, score, sentence1, sentence2, maybe sources.
UNNAMED: Sequence[Unnamed] = (
    Unnamed(re.compile("main-(captions|news|forums?)"), Layout((5, 6), 4)),
)
PAIR = 2
LABELLED = 3


def layout_of(sheet: Sheet, columns: Sequence[str], removed: Removed) -> Layout | None:
    """Return the columns of texts and label; None: all cells of a row, the third maybe a label.

    Columns that are left out are noted in ``removed``.

    Raises:
        InputError: a column does not exist or holds no texts, or the columns must be named.
    """
    if columns:
        return _chosen(sheet, columns)
    layout = _by_name(sheet) or _published(sheet)
    if layout is None:
        layout = _by_kind(sheet)
    if layout is not None:
        _note(sheet, layout, removed)
    return layout


def picked_rows(sheet: Sheet, layout: Layout | None, removed: Removed) -> Iterator[Row]:
    """Yield rows of the texts and, last, the label; count those without a text in ``removed``.

    A row without a label (empty, or -) is left out as well.

    Raises:
        InputError: a label is no label.
    """
    for row in sheet.rows():
        cells = _all_texts(row) if layout is None else _picked(row, layout)
        has_label = layout is not None and layout.label is not None
        is_unlabelled = has_label and cells[-1] == NO_LABEL
        if is_unlabelled or not cells or any(map(is_missing, cells)):
            removed.empty_cells += 1
            continue
        if layout is not None and layout.label is not None:
            _require_label(cells[-1], f"{row.where}, column {sheet.name(layout.label)}")
        yield Row(row.where, cells)


def _all_texts(row: Row) -> list[JsonValue]:
    """Return the cells of a group without the empty ones; all cells where fewer than two remain."""
    present = [cell for cell in row.cells if not is_missing(cell)]
    is_labelled = len(row.cells) == LABELLED and score_of(row.cells[-1]) is not None
    return row.cells if is_labelled or len(present) < PAIR else present


def _picked(row: Row, layout: Layout) -> list[JsonValue]:
    """Return the cells of a layout's columns; a cell that is a list stands for its elements."""
    cells: list[JsonValue] = []
    for column in layout.texts:
        cell = row.cells[column] if column < len(row.cells) else None
        cells += cell if isinstance(cell, list) else [cell]
    if layout.label is not None:
        cells.append(row.cells[layout.label] if layout.label < len(row.cells) else None)
    return cells


def _require_label(label: JsonValue, where: str) -> None:
    if score_of(label) is None:
        raise InputError(
            f"{where}: a label is a finite number, contradiction, neutral or entailment; "
            f"got {brief(label)}; correct it or drop the line"
        )


def _chosen(sheet: Sheet, columns: Sequence[str]) -> Layout:
    """Return the layout of ``--columns``: texts, and a label where the last column holds labels."""
    indices = [sheet.find(column, "--columns") for column in columns]
    last = sheet.kinds[indices[-1]]
    has_label = len(indices) >= LABELLED and not last.is_text
    texts = indices[:-1] if has_label else indices
    for index in texts:
        sheet.require_text(index, "name the columns of the texts in --columns, then of the label")
    return Layout(tuple(texts), indices[-1] if has_label else None)


def _by_name(sheet: Sheet) -> Layout | None:
    """Return the columns whose names are in :data:`NAMED` and :data:`LABELS`."""
    for names in NAMED:
        if all(sheet.names.count(name) == 1 for name in names):
            texts = tuple(sheet.names.index(name) for name in names)
            for column in texts:
                sheet.require_text(column, _way_out(sheet))
            label = next((name for name in LABELS if name in sheet.names), None)
            return Layout(texts, None if label is None else sheet.names.index(label))
    return None


def _published(sheet: Sheet) -> Layout | None:
    """Return the layout of a published file that has no header."""
    first = sheet.head[0].cells
    for row in UNNAMED:
        width = max((*row.layout.texts, row.layout.label or 0)) + 1
        if sheet.names or len(first) < width or not row.first_cell.fullmatch(str(first[0])):
            continue
        return row.layout
    return None


def _by_kind(sheet: Sheet) -> Layout | None:
    """Return two columns of texts and one of labels among ids; None where all columns are read.

    Raises:
        InputError: a column holds no texts, and which columns to read is not certain.
    """
    texts = [i for i, kind in enumerate(sheet.kinds) if kind.is_text]
    empty = [i for i, kind in enumerate(sheet.kinds) if kind is COLUMN_KINDS["nothing"]]
    others = [i for i in range(len(sheet.kinds)) if i not in (*texts, *empty)]
    is_group = not others or (others == [PAIR] and len(sheet.kinds) == LABELLED)
    if is_group and (not others or _may_label(sheet, PAIR)):
        return None if not sheet.names else Layout(tuple(texts), others[0] if others else None)

    labels = [i for i in others if sheet.kinds[i].is_label]
    ids = [i for i in others if not sheet.kinds[i].is_label]
    if len(texts) == PAIR and len(labels) == 1 and len(ids) == len(others) - 1:
        return Layout(tuple(texts), labels[0])
    if not others:
        return None
    sheet.require_text(others[0], _way_out(sheet))
    return None


def _may_label(sheet: Sheet, column: int) -> bool:
    """Return whether a column of numbers or classes is a label, also if all are different."""
    cells = [row.cells[column] for row in sheet.head if column < len(row.cells)]
    return all(score_of(cell) is not None for cell in cells if not is_missing(cell))


def _way_out(sheet: Sheet) -> str:
    """Return how to name the columns, with those that look right."""
    texts = [i for i, kind in enumerate(sheet.kinds) if kind.is_text]
    labels = [i for i, kind in enumerate(sheet.kinds) if kind.is_label]
    likely = [*texts[:PAIR], *labels[-1:]] if len(texts) >= PAIR else []
    example = " ".join(sheet.name(i) for i in likely) or "sentence1 sentence2 score"
    return f"choose columns with --columns {example}; the file has {sheet.listing()}"


def _note(sheet: Sheet, layout: Layout, removed: Removed) -> None:
    """Note the columns that are read, where others are left out."""
    used = {*layout.texts, *(() if layout.label is None else (layout.label,))}
    left_out = [sheet.name(i) for i in range(len(sheet.kinds)) if i not in used]
    if not left_out:
        return
    texts = " and ".join(sheet.name(i) for i in layout.texts)
    label = "" if layout.label is None else f", the label in {sheet.name(layout.label)}"
    note = f"{sheet.path}: texts in columns {texts}{label}; left out {', '.join(left_out)}"
    if any(name in NEGATIVES for name in left_out):
        note += " (the negatives of a pair are the other texts of its batch)"
    removed.remarks.append(note)
