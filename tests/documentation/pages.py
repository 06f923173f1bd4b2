"""Code blocks of a Markdown page, and the output that the page shows of them.

A fenced block of ``sh`` or ``python`` is run. A ``text`` block right behind it, with nothing but
blank lines and comments between, is its output. Comments before a block, or between it and its
output, are its settings::

    <!-- not run: REASON -->        the block is left out
    <!-- exit code: 2 -->           the block ends with this code; 0 otherwise
    <!-- tolerance: 0.2 -->         relative tolerance of numbers; 1: any number
    <!-- output varies: REASON -->  the output is an example and is not compared

``<!-- page not run: REASON -->`` leaves out a whole page. ``<!-- seconds -->`` stands before the
processor time of the page, and ``<!-- figure: FILE -->`` before an image that the page's blocks
write: see :mod:`tests.documentation.__main__`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["LANGUAGES", "TOLERANCE", "Block", "Figure", "blocks", "figures", "left_out"]

LANGUAGES = ("sh", "python")
TOLERANCE = 0.05  # relative, of numbers in outputs

FENCE = re.compile(r"(?P<indent>\s*)(?P<ticks>`{3,})(?P<language>\w*)")
COMMENT = re.compile(r"\s*<!--\s*(?P<name>[a-z ]+?)\s*(?::\s*(?P<value>.*?))?\s*-->\s*")
PAGE_LEFT_OUT = re.compile(r"<!--\s*page not run:\s*(.+?)\s*-->")
FIGURE = re.compile(r"<!--\s*figure:\s*(\S+)\s*-->\s*\n\s*!\[[^\]]*\]\(([^)\s]+)\)")
SETTINGS = ("not run", "exit code", "tolerance", "output varies")


@dataclass
class Block:
    """A fenced block of code.

    Args:
        first, last: its lines in the page, fences included, from 0.
        settings: the comments that belong to it.
        output: the block that shows its output; None: the page shows none.
    """

    language: str
    code: str
    first: int
    last: int
    indent: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    output: "Block | None" = None

    @property
    def runs(self) -> bool:
        """Whether the block is run."""
        return self.language in LANGUAGES and "not run" not in self.settings

    @property
    def is_compared(self) -> bool:
        """Whether its output is compared with the shown one."""
        return self.output is not None and "output varies" not in self.settings

    @property
    def tolerance(self) -> float:
        """Relative tolerance of the numbers in its output."""
        return float(self.settings.get("tolerance", TOLERANCE))

    @property
    def exit_code(self) -> int:
        """The code that the block ends with."""
        return int(self.settings.get("exit code", 0))


@dataclass(frozen=True)
class Figure:
    """An image of a page: the file that its blocks write, and the path that the page links to."""

    file: str
    link: str


def left_out(page: str) -> str:
    """Return why no block of a page is run; empty: its blocks are."""
    reason = PAGE_LEFT_OUT.search(page)
    return reason.group(1) if reason else ""


def figures(page: str) -> list[Figure]:
    """Return the images of a page that its blocks write."""
    return [Figure(*match.groups()) for match in FIGURE.finditer(page)]


def blocks(page: str) -> list[Block]:
    """Return the blocks of code of a page, with their settings and outputs.

    Raises:
        ValueError: a block has no end, or a setting is none.
    """
    found: list[Block] = []
    settings: dict[str, str] = {}
    open_block: Block | None = None  # the last one, while only comments have followed it
    for part in _parts(page.splitlines()):
        if isinstance(part, Block):
            if part.language == "text" and open_block is not None:
                open_block.output = part
                open_block.settings.update(settings)
                open_block = None
            else:
                part.settings = settings
                open_block = part if part.language in LANGUAGES else None
                found.append(part)
            settings = {}
        elif comment := COMMENT.fullmatch(part):
            if comment["name"] in SETTINGS:
                settings[comment["name"]] = comment["value"] or ""
        elif part.strip():
            _require_unused(settings, part)
            open_block = None
    return found


def _require_unused(settings: dict[str, str], line: str) -> None:
    """Raise an error where comments that set something stand before no block."""
    if settings:
        raise ValueError(f"the settings {settings} stand before no block but {line!r}")


def _parts(lines: list[str]) -> Iterator[Block | str]:
    """Yield the fenced blocks of a page, and its other lines."""
    number = 0
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence is None:
            yield lines[number]
            number += 1
            continue
        first = number
        number += 1
        while number < len(lines) and lines[number].strip() != fence["ticks"]:
            number += 1
        if number == len(lines):
            raise ValueError(f"the block of line {first + 1} has no end")
        content = [line.removeprefix(fence["indent"]) for line in lines[first + 1 : number]]
        code = "".join(f"{line}\n" for line in content)
        yield Block(fence["language"], code, first, number, fence["indent"])
        number += 1
