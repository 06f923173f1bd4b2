"""``report.html``: the content of a run folder on one self-contained page.

A section is a function from :class:`Content` to parts of the page, which is empty where the run has
no data for it; ``SECTIONS`` lists them in order.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from experiments.reports import sections
from experiments.reports.blocks import Block, Part
from experiments.reports.content import Content
from experiments.reports.head import head
from experiments.reports.items import ITEM_KINDS, item_parts
from experiments.reports.templating import render
from univae.checkpoint import write_text_atomic
from univae.errors import InputError
from univae.rules import reading
from univae.run_folder import RunFolder

__all__ = ["SECTIONS", "document", "update", "write"]

Section: TypeAlias = Callable[[Content], list[Part]]

SECTIONS: list[Section] = [
    sections.headline,
    sections.notes,
    sections.inner_runs,
    sections.training_curves,
    sections.latents,
    sections.similarity,
    sections.distances,
    sections.players,
    sections.grids,
    *(partial(item_parts, kind=kind) for kind in ITEM_KINDS),
    sections.configuration,
]


def document(title: str, head_blocks: Sequence[Block], parts: Sequence[Part]) -> str:
    """Return a whole page: a head, a list of contents and the parts."""
    anchors: dict[str, Part] = {}
    for part in parts:
        anchor = part.anchor
        number = 2
        while anchor in anchors or anchor == "top":
            anchor = f"{part.anchor}-{number}"
            number += 1
        anchors[anchor] = part
    anchor_of: dict[str, str] = {}
    for anchor, part in anchors.items():
        anchor_of.setdefault(part.title, anchor)
    return render(
        "page.html",
        title=title,
        head=head_blocks,
        parts=list(anchors.items()),
        anchor_of=anchor_of,
    )


def write(run: Path) -> Path:
    """Write ``report.html`` and ``plots/*.svg`` into a run folder, and return the page's path.

    The page is replaced atomically.

    Raises:
        InputError: the folder is no run, or a file in it is damaged.
    """
    folder = RunFolder.open(run)
    with reading(run):
        content = Content(folder)
        parts = [part for section in SECTIONS for part in section(content)]
        page = document(f"Run {Path(run).resolve().name}", head(content), parts)
    path = Path(run) / "report.html"
    write_text_atomic(path, page)
    return path


def update(run: Path, *writers: Callable[[], object]) -> tuple[str | None, list[str]]:
    """Call the writers of new items in ``samples/`` and write the report.

    Return the path of the report, and notes. Where the run folder is not writable, as a shared one
    may be, the path is None and a note holds the reason, so that the result of the command is not
    lost.
    """
    try:
        for writer in writers:
            writer()
        return str(write(run)), []
    except (OSError, InputError) as error:
        reason = error if isinstance(error, InputError) else error.strerror or type(error).__name__
        return None, [f"{run}: the report was not written ({reason})"]
