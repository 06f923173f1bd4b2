"""The parts of a page, and the blocks of which they consist: notes, tables, charts, pictures.

A block holds values, and :attr:`Block.template` writes it; a new kind of block is one dataclass and
one file in ``templates/blocks``.
"""

import math
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from markupsafe import Markup

from experiments.reports.charts import Chart
from experiments.reports.svg import drawn
from experiments.reports.values import brief

__all__ = [
    "Block",
    "Cell",
    "Charts",
    "Fact",
    "Facts",
    "Folded",
    "Link",
    "Links",
    "Listing",
    "Note",
    "Part",
    "Picture",
    "Slider",
    "Table",
    "facts",
    "table",
    "text_table",
]

NUMBER = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)?\s?%?( ± \S+)?")
LONGEST_WORD = 30  # characters of a word that is never broken inside
NOT_IN_ANCHORS = re.compile(r"[^a-z0-9]+")


@runtime_checkable
class Block(Protocol):
    """A block of a part."""

    template: ClassVar[str]  # its file in templates/blocks


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str
    is_warning: bool = False
    template: ClassVar[str] = "note.html"


@dataclass(frozen=True)
class Fact:
    """A value with its label; a number with its unit."""

    label: str
    value: str
    unit: str = ""
    is_number: bool = False
    is_path: bool = False  # a path or a command

    @property
    def may_break(self) -> bool:
        """Whether its words may be broken inside: of paths, commands and very long words."""
        return self.is_path or any(len(word) > LONGEST_WORD for word in self.value.split())


@dataclass(frozen=True)
class Facts:
    """Labels and values, one a line."""

    facts: Sequence[Fact]
    template: ClassVar[str] = "facts.html"


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    is_number: bool = False
    is_best: bool = False
    key: float | None = None  # a column is sorted by it


@dataclass(frozen=True)
class Table:
    """A table, whose rows a click on the head of a column sorts where it is sortable."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    is_sortable: bool = False
    has_row_heads: bool = False
    template: ClassVar[str] = "table.html"

    @cached_property
    def numeric(self) -> Collection[int]:
        """The columns whose cells are all numbers or empty, which are right-aligned."""
        numbers: set[int] = set()
        texts: set[int] = set()
        for row in self.rows:
            for index, cell in enumerate(row):
                if cell.is_number:
                    numbers.add(index)
                elif cell.text:
                    texts.add(index)
        return numbers - texts


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Chart]
    pictures: Sequence[Markup] = field(init=False, compare=False)
    template: ClassVar[str] = "charts.html"

    def __post_init__(self) -> None:
        # drawn at once: damaged numbers are found where the item is read
        object.__setattr__(self, "pictures", [drawn(chart) for chart in self.charts])


@dataclass(frozen=True)
class Picture:
    """A PNG, part of the page."""

    content: bytes
    alt: str
    caption: str = ""
    row_labels: Sequence[str] = ()  # of the rows of a grid of images
    template: ClassVar[str] = "picture.html"

    @property
    def address(self) -> str:
        """The image as the address of an ``img``."""
        return f"data:image/png;base64,{b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Slider:
    """Pictures one at a time, chosen by a range input; a list without scripts."""

    label: str
    pictures: Sequence[Picture | Note]
    template: ClassVar[str] = "slider.html"


@dataclass(frozen=True)
class Listing:
    """A list of texts."""

    texts: Sequence[str]
    is_numbered: bool = False
    template: ClassVar[str] = "listing.html"


@dataclass(frozen=True)
class Link:
    """A link to another page, or to a part of this one."""

    address: str
    text: str


@dataclass(frozen=True)
class Links:
    """A list of links."""

    links: Sequence[Link]
    template: ClassVar[str] = "links.html"


@dataclass(frozen=True)
class Folded:
    """Blocks that a click on the summary shows."""

    summary: str
    blocks: Sequence[Block]
    template: ClassVar[str] = "folded.html"


@dataclass(frozen=True)
class Part:
    """A part of a page: a heading and blocks."""

    title: str
    blocks: Sequence[Block]
    related: Sequence[str] = ()  # titles of parts to link to, where the page has them

    @property
    def anchor(self) -> str:
        """The title in the letters of an address."""
        return NOT_IN_ANCHORS.sub("-", self.title.lower()).strip("-")[:60] or "part"


# A value of a cell or of a fact.
Value: TypeAlias = object


def table(
    columns: Iterable[object], rows: Iterable[Iterable[Value]], *, is_sortable: bool = False
) -> Table:
    """Return a table of values; texts that are numbers, such as ``3.2 ± 0.1``, count as numbers."""
    cells = [[_cell(value) for value in row] for row in rows]
    return Table([brief(column) for column in columns], cells, is_sortable)


def facts(rows: Iterable[tuple[str, Value]], unit: str = "") -> Facts:
    """Return labels and values as facts."""
    lines = []
    for label, value in rows:
        cell = _cell(value)
        lines.append(Fact(label, cell.text, unit, cell.is_number))
    return Facts(lines)


def text_table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> Table:
    """Return a table of texts, none of which counts as a number."""
    return Table(columns, [[Cell(text) for text in row] for row in rows])


def _cell(value: Value) -> Cell:
    if value is None:
        return Cell("")
    if isinstance(value, Real) and not isinstance(value, bool):
        key = float(value) if math.isfinite(value) else None
        return Cell(brief(value), is_number=True, key=key)
    text = brief(value)
    is_number = bool(NUMBER.fullmatch(text)) and any(map(str.isdigit, text))
    return Cell(text, is_number)
