"""Reports and comparisons in a browser: no fault that a reader would see, and scripts that work."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.compare import compare
from experiments.reports.page import write
from tests.browser import WIDTHS, chromium, faults, opened_page, views
from tests.experiments.reports.synthetic_runs import RUNS, gan_run, image_run, make_run, table_run

__all__ = ["chromium"]


Pages = Callable[[str], str]  # from a name to the path of its page, which is written once


def failed_run(folder: Path) -> Path:
    failed = make_run(folder, text="a" * 400)
    (failed / "ERROR.json").write_text('{"step": 7, "reason": "the loss is not finite"}')
    return failed


def two_runs(folder: Path) -> list[Path]:
    return [image_run(folder / "a"), image_run(folder / "b", lr=0.5)]


def seeds_of_runs(folder: Path) -> list[Path]:
    return [
        gan_run(folder / f"gan{lr}-{seed}", shift=100 * lr + seed, lr=lr, seed=seed)
        for lr in (0.01, 0.02)
        for seed in (0, 1, 2)
    ]


def eight_runs(folder: Path) -> list[Path]:
    return [table_run(folder / f"lr{i}", lr=0.001 * (i + 1)) for i in range(8)]


def mixed_runs(folder: Path) -> list[Path]:
    return [*two_runs(folder), gan_run(folder / "gan", shift=1.0, lr=0.01, seed=0)]


REPORTED: dict[str, Callable[[Path], Path]] = {**RUNS, "failed": failed_run}
COMPARED: dict[str, Callable[[Path], list[Path]]] = {
    "two": two_runs,
    "seeds": seeds_of_runs,
    "eight": eight_runs,
    "mixed": mixed_runs,
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """The report of a run of every kind, and of one that failed."""
    folder = tmp_path_factory.mktemp("runs")
    return functools.cache(lambda kind: str(write(REPORTED[kind](folder / kind))))


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Comparisons of few and of many groups."""
    folder = tmp_path_factory.mktemp("compared")

    @functools.cache
    def written(name: str) -> str:
        (folder / name).mkdir()
        return str(compare(COMPARED[name](folder / name), folder / f"{name}.html"))

    return written


@pytest.fixture
def page(chromium: Any, reports: Pages) -> Iterator[Any]:
    """The page of a text model."""
    with opened_page(chromium, reports("text")) as (opened, problems):
        yield opened
        assert problems == []


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in RUNS), "failed"]
)
def test_a_report_has_no_faults(kind: str, chromium: Any, reports: Pages) -> None:
    for width, scheme in views():
        with opened_page(chromium, reports(kind), width, scheme) as (opened, problems):
            for details in opened.query_selector_all("details"):
                details.evaluate("node => { node.open = true; }")
            assert faults(opened, problems) == [], (width, scheme)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_has_no_faults(name: str, chromium: Any, comparisons: Pages) -> None:
    for width, scheme in views():
        with opened_page(chromium, comparisons(name), width, scheme) as (opened, problems):
            for details in opened.query_selector_all("details"):
                details.evaluate("node => { node.open = true; }")
            assert faults(opened, problems) == [], (width, scheme)


def test_contents_lead_to_every_part_and_back(page: Any) -> None:
    addresses = page.eval_on_selector_all("nav a", "links => links.map(a => a.hash)")
    parts = page.eval_on_selector_all("section", "parts => parts.map(part => '#' + part.id)")
    assert addresses == parts
    page.click(f"nav a[href='{addresses[-1]}']")
    assert page.evaluate("window.scrollY") > 0
    page.click(f"{addresses[-1]} .top")
    assert page.evaluate("window.scrollY") == 0


@pytest.mark.slow
def test_related_parts_are_linked(page: Any) -> None:
    links = page.eval_on_selector_all(
        ".related a", "links => links.map(a => [a.closest('section').id, a.hash.slice(1)])"
    )
    worst = "the-least-likely-texts-the-lowest-first"
    scores = "log-likelihood-of-test-64-importance-samples-posterior"
    assert [scores, worst] in links
    assert [worst, scores] in links
    assert ["best-validation", "curves"] in links
    ids = page.eval_on_selector_all("section", "parts => parts.map(part => part.id)")
    assert {target for _, target in links} <= set(ids)


@pytest.mark.slow
def test_a_chart_shows_the_value_under_the_pointer(page: Any) -> None:
    chart = page.locator("figure", has_text="Negative log-likelihood of held-out data").locator(
        "svg"
    )
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert page.locator(".tip").count() == 0
    page.mouse.move(box["x"] + box["width"] - 15, box["y"] + box["height"] - 60)
    assert page.locator(".tip").text_content() == "NLL at 1,000: 110 ± 0.5"
    page.mouse.move(5, 5)
    assert page.locator(".tip").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_slider_shows_one_image_at_a_time(width: int, chromium: Any, reports: Pages) -> None:
    with opened_page(chromium, reports("gan"), width) as (opened, problems):
        shown = opened.locator(".slide:visible img")
        assert shown.count() == 1
        last = shown.get_attribute("alt")
        assert last == "Generated images, step 1200"
        opened.locator(".slider input").focus()
        opened.keyboard.press("Home")
        assert opened.locator(".slide:visible img").get_attribute("alt") == (
            "Generated images, step 200"
        )
        assert opened.locator(".slider output").text_content() == "Step 200"
        assert problems == []


@pytest.mark.slow
def test_without_scripts_all_images_are_a_list(chromium: Any, reports: Pages) -> None:
    context = chromium.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(Path(reports("gan")).as_uri())
    assert opened.locator(".slide img").count() == 6
    assert opened.locator(".slide img >> visible=true").count() == 6
    assert opened.locator(".control >> visible=true").count() == 0
    context.close()


@pytest.mark.slow
def test_a_click_on_a_head_sorts_the_scores(page: Any) -> None:
    page.click("summary:has-text('lowest scores')")
    table = page.locator("table.sortable").first

    def column(number: int) -> list[float]:
        texts = table.locator(f"tbody tr td:nth-child({number})").all_text_contents()
        return [float(text) for text in texts]

    assert column(2) == sorted(column(2))  # the lowest first
    head = table.locator("thead th").nth(0)
    head.click()
    assert column(1) == sorted(column(1))
    assert head.get_attribute("aria-sort") == "ascending"
    head.click()
    assert column(1) == sorted(column(1), reverse=True)
    table.locator("thead th").nth(1).press("Enter")
    assert column(2) == sorted(column(2))


@pytest.mark.slow
def test_colours_follow_the_scheme(chromium: Any, reports: Pages) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        with opened_page(chromium, reports("text"), scheme=scheme) as (opened, _):
            script = "node => [getComputedStyle(document.body).backgroundColor, getComputedStyle(node).stroke]"
            colours.add(tuple(opened.locator("svg .line.c0").first.evaluate(script)))
    assert len({background for background, _ in colours}) == 2
    assert len({stroke for _, stroke in colours}) == 2


@pytest.mark.slow
def test_the_best_value_of_a_metric_is_marked(chromium: Any, comparisons: Pages) -> None:
    with opened_page(chromium, comparisons("seeds")) as (opened, _):
        part = opened.locator("#metrics")
        heads = part.locator("thead th").all_text_contents()
        assert heads == ["", "lr 0.01", "lr 0.02"]
        row = part.locator("tbody tr", has_text="Fréchet distance")
        # 900 / 1200 + 100 lr + seed: means of the seeds 0, 1, 2
        assert [text.replace("\xa0", " ") for text in row.locator("td").all_text_contents()] == [
            "2.750 ± 1",
            "3.750 ± 1",
        ]
        assert row.locator("td.best").all_text_contents() == ["2.750 ±\xa01"]
