"""The site builds without a warning, reads well in every view, and loads nothing from elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browser import SCHEMES, WIDTHS, chromium, faults, opened_page

__all__ = ["chromium"]

ROOT = Path(__file__).parents[2]
PAGES = (
    "index.html",
    "contributing.html",
    "ideas/importance-sampling.html",
    "notebooks/bits-back.html",
    "reference/api/univae.optim.html",
    "reference/commands.html",
    "results/gans.html",
    "tutorials/text.html",
)
SETTLED = 400  # milliseconds


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a warning fails."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_reads_well_and_requests_no_other_host(site: Path, page: str, chromium: Any) -> None:
    for width, scheme in ((WIDTHS[0], SCHEMES[0]), (WIDTHS[1], SCHEMES[1])):
        with opened_page(chromium, str(site / page), width, scheme) as (opened, problems):
            opened.wait_for_timeout(SETTLED)
            assert not faults(opened, problems), f"{page}, {width} pixels, {scheme}"


@pytest.mark.slow
def test_formulas_are_drawn_without_a_script(site: Path, chromium: Any) -> None:
    for page in ("ideas/importance-sampling.html", "reference/api/univae.optim.html"):
        content = (site / page).read_text(encoding="utf-8")
        assert "<math" in content
        assert 'class="arithmatex"' not in content
        assert ":math:" not in content
        assert ".. math::" not in content
    with opened_page(chromium, str(site / page)) as (opened, _):
        sizes = opened.evaluate(
            "() => [...document.querySelectorAll('math')]"
            ".map((math) => math.getBoundingClientRect().width)"
        )
        assert min(sizes) > 0


@pytest.mark.slow
def test_the_search_finds_a_page_where_the_site_is_opened_as_files(
    site: Path, chromium: Any
) -> None:
    with opened_page(chromium, str(site / "index.html")) as (opened, problems):
        opened.locator("input[data-md-component=search-query]").first.click()
        opened.keyboard.type("AccumulatedAdamW")
        result = opened.locator(".md-search-result__link").first
        result.wait_for(state="attached")
        assert not problems


@pytest.mark.slow
def test_every_page_of_the_site_loads_only_its_own_files(site: Path) -> None:
    for path in site.rglob("*.html"):
        content = path.read_text(encoding="utf-8")
        for attribute in ('src="http', "url(http", 'rel="stylesheet" href="http'):
            assert attribute not in content, f"{path.relative_to(site)}: {attribute}"
