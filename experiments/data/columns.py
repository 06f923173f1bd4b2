"""Files of columns: the names of their columns, what these hold, and the rows.

The first line of a CSV or TSV file is a header where it holds names of columns: names that data
sets of texts use, or words above a column of numbers. JSON objects have their keys as names.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from experiments.data.column_kinds import COLUMN_KINDS, ColumnKind, is_missing, kind_of, score_of
from experiments.data.json_rows import brief
from experiments.data.pair_files import Row, read_rows
from univae.checkpoint import JsonValue
from univae.errors import InputError, brief_list
from univae.text.lines import Removed

__all__ = ["Sheet", "open_sheet"]

JUDGED = 1000  # rows that the kinds of columns are judged on
LONGEST_NAME = 40  # characters of a column's name in a header
SHOWN = 24  # characters of an example in a message

# Names of columns in published data sets of texts and of pairs of texts.
KNOWN_NAME = re.compile(
    r"(id|qid|pid|idx|index|guid|pair_?id)\d?|"
    r"(text|texts|sentence|sent|question|query|premise|hypothesis|anchor|positive|negative|pos|neg|"
    r"content|comment|review|body|title|caption|line|source|target|document|doc|answer|passage|"
    r"q|s)[ _-]?[12ab]?|"
    r"label|labels|gold_label|score|scores|similarity|similarity_score|relatedness_score|"
    r"is_duplicate|genre|split|set"
)


@dataclass(frozen=True)
class Sheet:
    """The rows of a file, all read in the order of its columns.

    Args:
        path: the file.
        names: the names of the columns; empty where the file does not name them.
        head: the first rows, on which columns are judged.
        rest: the rows after them, to be read once.
    """

    path: Path
    names: tuple[str, ...]
    head: Sequence[Row]
    rest: Iterator[Row]
    kinds: tuple[ColumnKind, ...] = field(init=False)

    def __post_init__(self) -> None:
        # rows may be shorter than the header
        width = max(len(self.names), *(len(row.cells) for row in self.head))
        columns = [[row.cells[i] for row in self.head if i < len(row.cells)] for i in range(width)]
        object.__setattr__(self, "kinds", tuple(map(kind_of, columns)))

    def rows(self) -> Iterator[Row]:
        """Yield all rows, once."""
        return chain(self.head, self.rest)

    def name(self, column: int) -> str:
        """Return the name of a column, or its number from 1."""
        return self.names[column] if self.names else str(column + 1)

    def find(self, name: str, option: str) -> int:
        """Return the index of the column that ``option`` names, by its name or number from 1.

        Raises:
            InputError: there is no such column, or two have the name.
        """
        columns = [i for i, column in enumerate(self.names) if column == name]
        if len(columns) == 1:
            return columns[0]
        if len(columns) > 1:
            raise InputError(
                f"{option}: {self.path} has {len(columns)} columns {name}; give a number"
            )
        if name.isascii() and name.isdigit() and 1 <= int(name) <= len(self.kinds):
            return int(name) - 1
        raise InputError(f"{option}: {self.path} has no column {name}; it has {self.listing()}")

    def listing(self) -> str:
        """Return the columns with what they hold, for messages."""
        parts = []
        for column, kind in enumerate(self.kinds):
            example = "" if kind is COLUMN_KINDS["nothing"] else f", {self._example(column)}"
            parts.append(f"{self.name(column)} ({kind.words}{example})")
        return f"{len(parts)} column{'s' if len(parts) > 1 else ''}: {brief_list(parts)}"

    def require_text(self, column: int, way_out: str) -> None:
        """Raise :class:`InputError` for a column that holds no texts, with the way out."""
        kind = self.kinds[column]
        if not kind.is_text:
            raise InputError(
                f"{self.path}: column {self.name(column)} holds {kind.words} "
                f"({self._example(column)}), which are no texts; {way_out}"
            )

    def _example(self, column: int) -> str:
        for row in self.head:
            if column < len(row.cells) and not is_missing(row.cells[column]):
                shown = brief(row.cells[column])
                return repr(shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "...")
        return "empty"


def open_sheet(path: Path, removed: Removed, expected: Sequence[str] = ()) -> Sheet:
    """Open a file of columns; its header, if it has one, is no row, and is noted in ``removed``.

    Args:
        path: a file of one of :data:`experiments.data.pair_files.PAIR_FORMATS`.
        removed: counts blank lines.
        expected: names that a header has; a first line that holds them all is one.

    Raises:
        InputError: the file is missing, empty or not UTF-8, has no row below its header, or the
            first rows cannot be read; while reading, a later row cannot be.
    """
    rows = read_rows(path, removed)
    head = list(islice(rows, JUDGED + 1))
    if head[0].names:
        names = tuple(dict.fromkeys(name for row in head for name in row.names))
        records = _of_objects(chain(head, rows), names)
        return Sheet(path, names, list(islice(records, JUDGED)), records)

    head = list(_of_lists(head))
    names = _header(head, expected)
    if not names:
        return Sheet(path, (), head, _of_lists(rows))
    body = head[1:]
    if not body:
        raise InputError(f"{path}: has a header, {brief_list(names)}, and no row below it")
    removed.remarks.append(f"{path}: the first line is a header: {brief_list(names)}")
    return Sheet(path, names, list(_of_width(body, len(names))), _of_width(rows, len(names)))


def _of_objects(rows: Iterable[Row], names: tuple[str, ...]) -> Iterator[Row]:
    """Yield the cells of objects in the order of ``names``, null where a key is missing."""
    for row in rows:
        if not row.names:
            raise InputError(
                f"{row.where}: a list, where other lines are objects with keys; give one of them "
                "in all lines"
            )
        cells = dict(zip(row.names, row.cells, strict=True))
        yield Row(row.where, [cells.get(name) for name in names], names)


def _of_lists(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        if row.names:
            raise InputError(
                f"{row.where}: an object with keys, where other lines are lists; give one of them "
                "in all lines"
            )
        yield row


def _of_width(rows: Iterable[Row], width: int) -> Iterator[Row]:
    """Yield rows that have no more cells than the header."""
    for row in rows:
        if len(row.cells) > width:
            raise InputError(
                f"{row.where}: {len(row.cells)} cells, and the header names {width}; put quotes "
                "around a text that holds a separator"
            )
        yield row


def _header(head: Sequence[Row], expected: Sequence[str]) -> tuple[str, ...]:
    """Return the cells of the first row if they are names of columns, otherwise nothing."""
    first, *others = head
    names = [cell for cell in first.cells if isinstance(cell, str)]
    words = {name for name in expected if not name.isdigit()}
    if words and words <= set(names):
        return tuple(names)
    if len(names) < len(first.cells) or not all(0 < len(name) <= LONGEST_NAME for name in names):
        return ()
    if len(set(names)) < len(names) or any(score_of(name) is not None for name in names):
        return ()
    known = sum(KNOWN_NAME.fullmatch(name.casefold()) is not None for name in names)
    if 2 * known >= len(names) or any(
        _is_above_numbers(column, others) for column in range(len(names))
    ):
        return tuple(names)
    return ()


def _is_above_numbers(column: int, others: Sequence[Row]) -> bool:
    """Return whether all cells of a column, and two at least, are labels or numbers."""
    cells: list[JsonValue] = [row.cells[column] for row in others if column < len(row.cells)]
    present = [cell for cell in cells if not is_missing(cell)]
    return len(present) > 1 and all(score_of(cell) is not None for cell in present)
