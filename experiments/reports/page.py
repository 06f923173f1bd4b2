"""``report.html``: the content of a run folder on one self-contained page.

A section is a function from :class:`Content` to HTML, which is empty where the run has no data for
it; ``SECTIONS`` lists them in order.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from experiments.reports import sections
from experiments.reports.content import Content
from experiments.reports.html import document
from experiments.reports.items import ITEM_KINDS, item_sections
from univae.checkpoint import write_text_atomic
from univae.errors import InputError
from univae.rules import reading
from univae.run_folder import RunFolder

__all__ = ["SECTIONS", "update", "write"]

Section: TypeAlias = Callable[[Content], str]

SECTIONS: list[Section] = [
    sections.headline,
    sections.notes,
    sections.inner_runs,
    sections.curves,
    sections.latents,
    sections.similarity,
    sections.distances,
    sections.grids,
    *(partial(item_sections, kind=kind) for kind in ITEM_KINDS),
    sections.configuration,
]


def write(run: Path) -> Path:
    """Write ``report.html`` and ``plots/*.png`` into a run folder, and return the page's path.

    The page is replaced atomically.

    Raises:
        InputError: the folder is no run, or a file in it is damaged.
    """
    folder = RunFolder.open(run)
    with reading(run):
        content = Content(folder)
        sections_of_page = [render(content) for render in SECTIONS]
    path = Path(run) / "report.html"
    write_text_atomic(path, document(f"Run {Path(run).resolve().name}", sections_of_page))
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
