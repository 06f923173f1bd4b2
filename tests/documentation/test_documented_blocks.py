"""Every page of the documentation does and prints what it shows."""

from pathlib import Path

import pytest

from tests.documentation.__main__ import check
from tests.documentation.pages import blocks, left_out

ROOT = Path(__file__).parents[2]


def pages() -> list[str]:
    """Return the pages that have a block to run."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return [
        str(path.relative_to(ROOT))
        for path, text in texts.items()
        if not left_out(text) and any(block.runs for block in blocks(text))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages())
def test_a_page_shows_what_its_blocks_print(page: str) -> None:
    report = check(ROOT / page)
    assert not report.faults, "\n".join(report.faults)
