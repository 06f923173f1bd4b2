"""The explorer in a browser: what is typed is answered by the library, on laptop and phone."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from browser import chromium, faults, opened_page, views  # noqa: F401  a fixture
from explorer_data import DATA, explored, picture_of

from experiments.explorer.gans import Gan, walk
from experiments.explorer.rows import SMALL
from experiments.explorer.sentences import Corpus
from experiments.explorer.texts import text_panels
from experiments.gans.samples import LEVELS
from experiments.gans.scaling import to_grey_levels
from experiments.images.row_outputs import picture
from experiments.reports.html import escape
from experiments.reports.image_grid import png

WAIT = 60_000  # milliseconds


@pytest.fixture(autouse=True)
def _gradio() -> None:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("gradio is not installed")


def opened_tab(page: Any, title: str) -> Any:
    """Return the panel of a tab, after a click on it, in the menu where there is no room."""
    page.wait_for_selector("button[role=tab]", timeout=WAIT)
    tab = page.get_by_role("tab", name=title, exact=True).filter(visible=True)
    if not tab.count():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown button", has_text=title)
    tab.first.click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    panel.wait_for(timeout=WAIT)
    return panel


def answered(panel: Any, button: str) -> str:
    """Click a button, and return the HTML of the answer."""
    panel.get_by_role("button", name=button, exact=True).click()
    shown = panel.locator(".answer [data-may-break]")
    shown.locator("table, img, p").first.wait_for(timeout=WAIT)
    return str(shown.inner_html())


def test_texts_are_answered_on_every_screen_and_a_wrong_number_is_named(
    chromium: Any,  # noqa: F811
    opened: Callable[[str], Any],
) -> None:
    run = opened("text")
    data = DATA / "texts.txt"
    latents = text_panels(run, data.read_text(encoding="utf-8").splitlines())[1]
    text = "the cat sees <a> dog"
    expected = escape(run.reconstruct(text, 3)[0])
    with explored(run.path, "--data", data) as address:
        for width, scheme in ((1280, "light"), (390, "dark")):
            with opened_page(chromium, address, width, scheme) as (page, problems):
                panel = opened_tab(page, "Reconstruct")
                panel.get_by_label("Text").fill(text)
                panel.get_by_label("Beam").fill("3")
                answer = answered(panel, "Show")
                assert f"<td>{expected}</td>" in answer
                assert "the cat sees &lt;a&gt; dog" in answer
                panel.get_by_label("Beam").fill("0")
                panel.get_by_role("button", name="Show", exact=True).click()
                panel.get_by_text("Beam must be at least 1; got 0").wait_for(timeout=WAIT)
                assert faults(page, problems) == []

                panel = opened_tab(page, "Latents")
                box = panel.locator("input[type=range]").first.bounding_box()
                page.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)  # 3
                shown = panel.locator(".answer table")
                shown.wait_for(timeout=WAIT)
                offsets = [3.0] + [0.0] * (len(latents.fields) - 2)
                moved = latents.answer(latents.fields[0].value, *offsets)
                assert shown.inner_text().split() == words_of(page, moved)
                assert faults(page, problems) == []


@pytest.mark.slow
def test_sentences_are_written_and_found(
    chromium: Any,  # noqa: F811
    opened: Callable[[str], Any],
) -> None:
    run = opened("similar")
    corpus = Corpus(run, str(DATA / "corpus.txt"))
    with explored(run.path, "--data", DATA / "corpus.txt") as address:
        for width, scheme in views():
            with opened_page(chromium, address, width, scheme) as (page, problems):
                panel = opened_tab(page, "Nearest")
                panel.get_by_label("Text").fill("the boy likes the cat")
                answer = answered(panel, "Search")
                for text, score in corpus.nearest("the boy likes the cat", 10):
                    assert f"<td>{score:.3f}</td><td>{text}</td>" in answer
                panel = opened_tab(page, "Similar")
                panel.get_by_label("Draws").fill("5")
                assert "<th>cosine</th>" in answered(panel, "Write")
                assert faults(page, problems) == []


@pytest.mark.slow
def test_images_are_walked_between_and_a_table_is_scored(
    chromium: Any,  # noqa: F811
    opened: Callable[[str], Any],
) -> None:
    run = opened("images")
    images = np.load(DATA / "images.npy")[:, None]
    path = run.interpolate(images[4:5], images[7:8], 8)
    with explored(run.path, "--data", DATA / "images.npy") as address:
        for width, scheme in views():
            with opened_page(chromium, address, width, scheme) as (page, problems):
                panel = opened_tab(page, "Path")
                panel.get_by_label("From row").fill("4")
                panel.get_by_label("To row").fill("7")
                assert picture_of(answered(panel, "Show")) == picture(run, path, 8, SMALL)
                assert faults(page, problems) == []

    run = opened("columns")
    with explored(run.path, "--data", DATA / "houses.csv") as address:
        for width, scheme in views():
            with opened_page(chromium, address, width, scheme) as (page, problems):
                panel = opened_tab(page, "Least likely")
                panel.get_by_label("Rows to score").fill("9")
                panel.get_by_label("Show").first.fill("2")
                assert "Mean of 9" in answered(panel, "Score")
                assert faults(page, problems) == []


@pytest.mark.slow
def test_a_gan_walks_between_two_seeds(
    chromium: Any,  # noqa: F811
    opened: Callable[[str], Any],
) -> None:
    run = opened("gan_images")
    expected = png(to_grey_levels(walk(Gan(run), 3, 5, 6)), LEVELS, 6, SMALL)
    with explored(run.path) as address:
        for width, scheme in views():
            with opened_page(chromium, address, width, scheme) as (page, problems):
                panel = opened_tab(page, "Walk")
                panel.get_by_label("From seed").fill("3")
                panel.get_by_label("To seed").fill("5")
                panel.get_by_label("Steps").fill("6")
                assert picture_of(answered(panel, "Show")) == expected
                assert faults(page, problems) == []


def words_of(page: Any, answer: str) -> list[str]:
    """Return the words that a browser shows of HTML."""
    script = "html => { const e = document.createElement('div'); e.innerHTML = html;"
    script += " document.body.append(e); const t = e.innerText; e.remove(); return t; }"
    return str(page.evaluate(script, answer)).split()
