"""A report shows the content of a run folder, escapes all of it, and needs no other file."""

import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from experiments.compare import compare
from experiments.reports import curves, demo_tables, item_charts, metric_curves
from experiments.reports.blocks import Note, Part
from experiments.reports.image_grid import write_picture
from experiments.reports.items import ITEM_KINDS
from experiments.reports.page import SECTIONS, write
from experiments.reports.series import Area, Bars, Line, Rule
from experiments.reports.templating import cleaned
from experiments.reports.values import brief, flat
from tests.experiments.reports.synthetic_runs import HOSTILE, make_run, validation_row
from univae.errors import InputError

VOID = ("meta", "img", "link", "input", "wbr")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = make_run(tmp_path / "run <1>", text=HOSTILE)
    (path / "environment.json").write_text(
        json.dumps({"torch": "9.9", "resumed": [{"threads": 2}]})
    )
    table = {
        "title": "Texts & more",
        "kind": "texts",
        "columns": ["a<b", "c"],
        "rows": [[HOSTILE, 3], ["x  y", None]],
    }
    (path / "samples" / "table.json").write_text(json.dumps(table | {"note": "a <note>"}))
    xs = [math.cos(i) for i in range(30)]
    labels = [HOSTILE, *(f"label {i}" for i in range(1, 30))]
    scatter = {"title": "Map", "kind": "points", "x": xs, "y": xs[::-1], "labels": labels}
    (path / "samples" / "map.json").write_text(
        json.dumps(scatter | {"color": xs, "color_label": HOSTILE})
    )
    (path / "samples" / "list.json").write_text("[1, 2]")
    (path / "samples" / "untitled.json").write_text('{"kind": "texts"}')
    return path


class Tags(HTMLParser):
    """Collects tags, and fails on one that is closed out of order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def all_text(self) -> str:
        return "".join(self.text)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


HOSTILE_CLEAN = cleaned(HOSTILE)


def headings(page: str) -> list[str]:
    """The texts of the headings of a page's parts."""
    found = re.findall(r"<h2>(.*?)<a ", page)
    return [html.unescape(text.replace("<wbr>", "")) for text in found]


def text_of(page: str) -> str:
    """The text of a page or of a piece of it, without tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def part(page: str, title: str) -> str:
    """A part of a page in HTML."""
    start = page.index(f"<h2>{title}")
    return page[start : page.index("</section>", start)]


def test_a_report_is_one_well_formed_page_with_every_section(run: Path) -> None:
    path = write(run)
    page = path.read_text(encoding="utf-8")
    tags = Tags(page)
    assert path == run / "report.html"
    assert headings(page) == [
        "Best validation", "Curves", "Use of the latent variables", "Map", "Texts & more",
        "Configuration",
    ]  # fmt: skip
    assert page.count("<script>") == 1  # that of the page itself
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert HOSTILE_CLEAN in tags.all_text
    assert "x  y" in tags.all_text
    assert "nested.deep" in tags.all_text
    assert "This run is not complete." in tags.all_text


def test_charts_are_on_the_page_with_words_and_saved_as_files(run: Path) -> None:
    charts = Tags(write(run).read_text(encoding="utf-8")).of("svg")
    saved = {path.stem: path.read_text() for path in (run / "plots").iterdir()}
    names = {"train_loss", "learning_rate", "validation", "kl_layers", "use", "active_units"}
    assert set(saved) == names | {"map_0"}
    assert len(charts) == len(saved)
    assert all(chart["role"] == "img" for chart in charts)
    for text in saved.values():
        root = ElementTree.fromstring(text)
        assert root.find("{*}title") is not None
        assert root.find("{*}style") is not None
        assert "hostile" not in text.lower()
        assert "<script" not in text


def test_the_headline_is_the_validation_of_the_smallest_nll(tmp_path: Path) -> None:
    rows = [
        validation_row(0, 50.0),
        validation_row(10, 41.25),
        validation_row(20, 45.0),
        validation_row(30, math.inf),
    ]
    page = write(make_run(tmp_path / "run", rows)).read_text(encoding="utf-8")
    first = text_of(part(page, "Best validation"))
    assert "negative log-likelihood41.25 nats" in first
    assert "KL of all layers5.000 nats" in first
    assert "at step10" in first


@pytest.mark.parametrize(
    "rows", [[], [validation_row(0, 50.0)], [{"kind": "validation", "step": 1, "nll_nats": None}]]
)
def test_missing_pieces_are_left_out(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = make_run(tmp_path / "run", rows)
    (path / "DONE").write_text("{}")
    page = write(path).read_text(encoding="utf-8")
    Tags(page)
    assert "Configuration" in page
    assert "Environment" not in page
    assert "training loss" not in page.lower()
    assert "null" not in text_of(page[page.index("<header") : page.index("<h2>Configuration")])
    assert "This run is not complete." not in page


def test_a_failure_is_the_first_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [{"kind": "train", "step": 1, "loss": math.nan}])
    (run / "ERROR.json").write_text(json.dumps({"step": 7, "reason": "loss is NaN"}))
    page = write(run).read_text(encoding="utf-8")
    shown = text_of(page)
    failure = 'Training failed: {"step": 7, "reason": "loss is NaN"}'
    assert shown.index(failure) < shown.index("status")
    assert "statusfailed" in shown


def test_notes_of_the_data_and_of_the_result_are_shown_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [validation_row(0, 50.0)])
    assert "Notes" not in headings(write(run).read_text(encoding="utf-8"))
    data = {
        "text": {"notes": ["540 of 600 texts <left out>"]},
        "tokenizer": {},
        "odd": {"notes": "none"},
    }
    (run / "data.json").write_text(json.dumps(data))
    (run / "DONE").write_text(json.dumps({"notes": ["540 of 600 texts <left out>", HOSTILE]}))
    page = write(run).read_text(encoding="utf-8")
    Tags(page)
    first = part(page, "Notes")
    assert first.count("<li>") == 2
    assert "540 of 600 texts <left out>" in text_of(first)
    assert HOSTILE_CLEAN in text_of(first)
    (run / "DONE").write_text("[1]")
    Tags(write(run).read_text(encoding="utf-8"))


def test_a_report_is_written_again_in_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [validation_row(0, 50.0)])
    first = write(run).read_bytes()
    assert write(run).read_bytes() == first
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_a_folder_without_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a run folder"):
        write(tmp_path)
    with pytest.raises(InputError, match=r"is not a run folder"):
        compare([tmp_path], tmp_path / "page.html")
    with pytest.raises(InputError, match=r"at least one run folder; got none; give the --out"):
        compare([], tmp_path / "page.html")


def test_a_report_links_to_the_runs_inside_its_own(tmp_path: Path) -> None:
    outer = make_run(tmp_path / "outer")
    assert "Runs inside this run" not in write(outer).read_text()
    write(make_run(outer / "a & b"))
    page = write(outer).read_text()
    assert '<a href="a%20%26%20b/report.html">a &amp; b</a>' in page


def test_sections_are_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "experiments.reports.page.SECTIONS",
        [*SECTIONS, lambda content: [Part("More", [Note(f"{len(content.training)} more")])]],
    )
    run = make_run(tmp_path / "run", [{"kind": "train", "step": 3}])
    assert '<p class="note">1 more</p>' in write(run).read_text(encoding="utf-8")


def test_curves_show_the_numbers_of_the_rows() -> None:
    rows = [validation_row(step, 60.0 - step) for step in (0, 5, 10)]
    (chart,) = curves.validation(rows)
    nll, bound = chart.series
    assert isinstance(nll, Line)
    assert isinstance(bound, Line)
    assert (list(nll.x), list(nll.y)) == ([0, 5, 10], [60, 55, 50])
    assert nll.errors is not None
    assert list(nll.errors) == [0.5] * 3
    assert (list(bound.x), list(bound.y)) == ([0, 5, 10], [63, 58, 53])

    (stacked,) = curves.kl_layers(rows)
    areas = [series for series in stacked.series if isinstance(series, Area)]
    assert [area.name for area in areas] == ["layer 0", "layer 1", "layer 2"]
    assert [list(area.high) for area in areas] == [[3.0] * 3, [4.5] * 3, [5.0] * 3]
    assert [list(area.low) for area in areas] == [[0.0] * 3, [3.0] * 3, [4.5] * 3]

    (alone,) = curves.kl_layers(rows[:1])
    (bars,) = alone.series
    assert isinstance(bars, Bars)
    assert list(bars.heights) == [3.0, 1.5, 0.5]
    assert list(alone.x_names) == ["layer 0", "layer 1", "layer 2"]


def test_the_training_loss_has_a_running_median() -> None:
    rows = [{"step": s, "loss": float(s % 2), "lr": 0.1} for s in range(200)]
    loss, rate = curves.training(rows)
    raw, median = loss.series
    assert isinstance(raw, Line)
    assert isinstance(median, Line)
    wanted = [np.median([s % 2 for s in range(max(i - 5, 0), min(i + 6, 200))]) for i in range(200)]
    assert list(median.y) == wanted
    assert list(raw.y) == [row["loss"] for row in rows]
    assert rate.title == "Learning rate"


def gan_row(step: int, distance: float | None, **more: Any) -> dict[str, Any]:
    row = {"kind": "validation", "step": step, "selection": 5.0, "frechet_distance": distance}
    return row | {"precision": step / 100, "recall": 0.5} | more


def player_row(step: int) -> dict[str, Any]:
    row = {"kind": "train", "step": step, "loss": 1.5, "generator_loss": -0.5, "lr": 0.1}
    return row | {"real_score": 1.0, "fake_score": -1.0, "penalty": 0.25, "norm_median": 0.9}


def test_a_gan_has_its_distance_and_its_grids_by_step(tmp_path: Path) -> None:
    rows = [gan_row(step, 90.0 - step) for step in range(0, 50, 5)]
    distance, shares = metric_curves.lines(rows, metric_curves.DISTANCES)
    (line,) = distance.series
    assert isinstance(line, Line)
    assert list(zip(line.x, line.y, strict=True)) == [(s, 90 - s) for s in range(0, 50, 5)]
    assert distance.is_log_y
    precision, recall = shares.series
    assert isinstance(precision, Line)
    assert isinstance(recall, Line)
    assert list(precision.y) == [step / 100 for step in range(0, 50, 5)]
    assert set(recall.y) == {0.5}

    run = make_run(tmp_path / "run", rows)
    for step in range(0, 50, 5):
        write_picture(run / "samples" / f"step_{step:06d}.png", torch.rand(4, 1, 8, 8), 2)
    (run / "samples" / "step_000045.png").write_bytes(b"damaged")
    page = write(run).read_text(encoding="utf-8")
    assert (run / "plots" / "distance.svg").exists()
    assert "Distance to real data" in headings(page)
    grids = part(page, "Images of the same latents by step")
    shown = re.findall(r"<figcaption>Step (\d+)<", grids)
    assert shown == [str(step) for step in range(0, 45, 5)]
    assert "Generated images, step 5" in grids
    assert "Step 45: cannot be shown: " in grids


def test_many_grids_are_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.reports.sections.MOST_GRIDS", 4)
    run = make_run(tmp_path / "run", [gan_row(0, 1.0)])
    for step in range(0, 50, 5):
        write_picture(run / "samples" / f"step_{step:06d}.png", torch.rand(4, 1, 8, 8), 2)
    page = write(run).read_text(encoding="utf-8")
    assert re.findall(r"<figcaption>Step (\d+)<", page) == ["0", "20", "40", "45"]


def test_both_players_of_a_gan_have_curves(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [player_row(step) for step in range(5)])
    page = write(run).read_text(encoding="utf-8")
    players = text_of(part(page, "Critic and generator"))
    for words in ("Losses", "Scores of the critic", "Penalties of the critic", "generated rows"):
        assert words in players
    assert {path.stem for path in (run / "plots").iterdir()} >= {"losses", "scores", "penalties"}
    plain = make_run(tmp_path / "plain", [{"kind": "train", "step": 1, "loss": 1.0}])
    assert "Critic and generator" not in write(plain).read_text(encoding="utf-8")


def test_a_report_says_why_there_is_no_distance(tmp_path: Path) -> None:
    reason = "the classifier of x is right on 40% of held-out images"
    run = make_run(tmp_path / "run", [gan_row(5, None, frechet_note=reason)])
    page = write(run).read_text(encoding="utf-8")
    assert f'<p class="warning">{reason}</p>' in page
    assert "Fréchet distance" not in page
    assert not (run / "plots" / "distance.svg").exists()


def test_rows_without_a_finite_number_are_no_points() -> None:
    rows = [
        {"step": 1, "a": 2.0},
        {"step": 2, "a": None},
        {"step": 3},
        {"step": 4, "a": math.nan},
        {"step": 5, "a": 3},
    ]
    steps, values = metric_curves.column(rows, "a")
    assert (steps.tolist(), values.tolist()) == ([1, 5], [2, 3])


def test_labelled_points_are_far_from_each_other() -> None:
    x = [0.0, 0.1, 0.2, 10.0, 10.1, 5.0]
    assert sorted(item_charts.spread_out(x, [0.0] * 6, count=3)) == [0, 4, 5]
    assert item_charts.spread_out([], []) == []
    assert item_charts.spread_out([1.0], [1.0]) == [0]


def test_scores_without_a_khat_threshold_have_no_rule() -> None:
    item = {"log_likelihood": [-1.0, -2.0, None], "khat": [0.5, 0.75, None]}
    note = "k-hat is undefined below 21 samples"

    def rules(totals: dict[str, Any]) -> list[float]:
        *_, chart = item_charts.scores(item | {"totals": totals})
        assert chart.y_label == "k-hat"
        return [series.y for series in chart.series if isinstance(series, Rule)]

    assert rules({"khat_threshold": None, "khat_note": note}) == []
    assert rules({"khat_threshold": 0.4}) == [0.4]
    assert rules({}) == [item_charts.MANY_SAMPLES]
    (histogram,) = item_charts.scores({**item, "khat": [None] * 3, "totals": {}})
    assert histogram.y_label == "number of data"


def test_the_demo_says_of_texts_where_khat_is_unreliable_or_undefined(
    capsys: pytest.CaptureFixture[str],
) -> None:
    numbers = (
        "nll_nats", "nll_standard_error", "nll_monte_carlo_error", "bits_per_token", "elbo_nats",
        "effective_samples_median", "reconstruction_nats", "khat_threshold", "khat_unreliable",
    )  # fmt: skip
    words = {"data": 2, "samples": 16, "verdict": "used", "active_units": 1, "units": 2}
    scores = dict.fromkeys(numbers, 0.25) | {"kl_nats": [1.0]} | words
    demo_tables.print_text_scores(scores)
    shown = "k-hat is above 0.25 for 25% of the texts: for them the estimate is no more than a"
    assert shown in capsys.readouterr().err
    undefined = {"khat_threshold": None, "khat_unreliable": None, "khat_note": "k-hat is undefined"}
    demo_tables.print_text_scores(scores | undefined)
    assert "median; k-hat is undefined\n" in capsys.readouterr().err


def test_the_demo_ends_with_four_numbers_and_the_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {"bits_per_char": 2.0, "bytes_out": 100, "archivers": {"gzip": 300, "xz": 150}}
    result = {
        "run": "runs/demo",
        "report": "runs/demo/report.html",
        "seconds": 240.2,
        "nll_nats": 150.66,
        "data": 256,
        "files": files,
        "images": {"log_likelihood_nats": -23.32, "count": 180},
        "gan": {"frechet_distance": 1.67, "floor": {"frechet_distance": 0.41}},
    }
    demo_tables.print_summary(result)
    shown = capsys.readouterr().err
    for words in (
        "240 s",
        "150.7 nats/text, the negative log-likelihood of 256 sentences",
        "2.00 bits/character; best other: 3.00, xz",
        "23.3 nats/image, the negative log-likelihood of 180 digits",
        "1.67 Fréchet distance to real digits; of other real digits: 0.41",
        "plots: runs/demo/report.html\n",
        "univae sample runs/demo",
    ):
        assert words in shown
    assert len(shown.strip().splitlines()) < 10


def test_the_demo_says_why_its_gan_has_no_distance(capsys: pytest.CaptureFixture[str]) -> None:
    generated = {"frechet_distance": None, "frechet_note": "the classifier is right on 40%"}
    files = {"bits_per_char": 2.0, "bytes_out": 100, "archivers": {"xz": 150}}
    result = {
        "run": "demo", "report": "report.html", "seconds": 1.0, "nll_nats": 1.0, "data": 2,
        "files": files, "images": {"log_likelihood_nats": -1.0, "count": 1}, "gan": generated,
    }  # fmt: skip
    demo_tables.print_summary(result)
    words = "a WGAN-GN        no Fréchet distance: the classifier is right on 40%\n"
    assert words in capsys.readouterr().err


def test_numbers_are_brief_and_text_is_clean() -> None:
    assert [brief(x) for x in (3.14159, 123456.7, 5, True, None, "a", [1])] == [
        "3.142", "123457", "5", "true", "null", "a", "[1]",
    ]  # fmt: skip
    assert cleaned("<&\0\ud800\n👩‍👧") == "<&\ufffd\ufffd\n👩‍👧"
    assert flat({"a": {"b": 1, "c": {}}, "d": 2}) == {"a.b": 1, "d": 2}


# Every kind of item

ITEMS: dict[str, dict[str, Any]] = {
    "likelihood": {
        "note": "a note",
        "totals": {"elbo_nats": -3.0},
        "log_likelihood": [-1.0, None],
        "khat": [0.5, None],
        "ladder": {"samples": [1, 2], "nats": [-3.0, -2.0]},
    },
    "points": {"x": [0.0, 1.0], "y": [1.0, 0.0], "labels": ["first", "second"]},
    "images": {"file": "grid.png"},
    "texts": {"columns": ["text"], "rows": [["a row"]]},
}


def run_with_items(path: Path, kind: str, **changes: Any) -> Path:
    """A run of one item of a kind, and an image."""
    run = make_run(path, [validation_row(0, 50.0)])
    write_picture(run / "samples" / "grid.png", torch.zeros(3, 1, 4, 4), 256)
    item = {"kind": kind, "title": f"An item of {kind}"} | ITEMS[kind] | changes
    (run / "samples" / "item.json").write_text(json.dumps(item))
    return run


def test_every_kind_of_item_has_an_example_here() -> None:
    assert ITEMS.keys() == ITEM_KINDS.keys()


@pytest.mark.parametrize("kind", ITEM_KINDS)
def test_every_kind_of_item_is_a_section(kind: str, tmp_path: Path) -> None:
    page = write(run_with_items(tmp_path / "run", kind)).read_text(encoding="utf-8")
    Tags(page)
    assert f"An item of {kind}" in headings(page)
    assert "cannot be shown" not in page


@pytest.mark.parametrize("kind", ITEM_KINDS)
def test_a_damaged_item_of_every_kind_is_named(kind: str, tmp_path: Path) -> None:
    broken = dict.fromkeys(ITEMS[kind], 3)
    page = write(run_with_items(tmp_path / "run", kind, **broken)).read_text(encoding="utf-8")
    Tags(page)
    body = part(page, f"An item of {kind}")
    assert text_of(body).count("cannot be shown, its file in samples/") == 1


def test_items_of_other_kinds_are_ignored(tmp_path: Path) -> None:
    run = run_with_items(tmp_path / "run", "texts")
    item = json.loads((run / "samples" / "item.json").read_text())
    (run / "samples" / "item.json").write_text(json.dumps(item | {"kind": "other"}))
    assert "An item of" not in write(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["../config.json", "", "..", "link.png", "text.png", "none.png"])
def test_a_picture_outside_samples_or_of_another_format_is_refused(
    name: str, tmp_path: Path
) -> None:
    run = run_with_items(tmp_path / "run", "images", file=name)
    (run / "samples" / "link.png").symlink_to(run / "samples" / "grid.png")
    (run / "samples" / "text.png").write_text("no image")
    page = text_of(write(run).read_text(encoding="utf-8"))
    assert "cannot be shown, its file in samples/ is damaged (InputError" in page
