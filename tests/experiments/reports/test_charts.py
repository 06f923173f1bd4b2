"""Charts: round ticks, points in their places, thinned lines, and what the pointer shows."""

import json
import math
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.reports.charts import Chart, Frame, Series
from experiments.reports.scales import (
    Linear,
    Logarithmic,
    linear_ticks,
    log_ticks,
    scale_of,
    tick_texts,
)
from experiments.reports.series import Area, Bars, Dots, Line, Rule, thinned
from experiments.reports.svg import drawn, drawn_file

FRAME = Frame(Linear(0.0, 10.0), Linear(0.0, 1.0), 100.0, 20.0, 200.0, 50.0)
finite = st.floats(-1e9, 1e9)


def elements(chart: Chart, tag: str, css: str = "") -> list[dict[str, str]]:
    """The attributes of a chart's elements of a tag and a class."""
    root = ElementTree.fromstring(drawn_file(chart))
    found = root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")
    return [each.attrib for each in found if css in each.attrib.get("class", "").split() or not css]


@given(finite, st.floats(1e-6, 1e9))
def test_linear_ticks_are_a_few_round_numbers_inside_the_range(low: float, span: float) -> None:
    high = low + span
    if not high > low or span < 1e-6 * abs(low):
        return
    ticks = linear_ticks(low, high)
    assert 1 <= len(ticks) <= 6
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[:1].repeat(len(steps)), rtol=1e-3)
    slack = 1e-6 * span
    assert all(low - slack <= tick <= high + slack for tick in ticks)


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9))
def test_log_ticks_are_inside_the_range_and_increase(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert ticks == sorted(set(ticks))
    assert all(low * 0.999 <= tick <= low * ratio * 1.001 for tick in ticks)


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0.0, 0.25, 0.5], ["0.00", "0.25", "0.50"]),
        ([-100.0, 0.0], ["-100", "0"]),
        ([0.0, 100_000.0], ["0", "100k"]),
        ([0.0, 20e6], ["0", "20M"]),
        ([0.0, 1e-4, 2.5e-4], ["0", "1e-4", "2.5e-4"]),
        ([0.0005, 0.001], ["0.0005", "0.0010"]),
    ],
)
def test_the_texts_of_ticks_have_one_unit(ticks: Sequence[float], texts: Sequence[str]) -> None:
    assert tick_texts(ticks) == texts


def test_a_scale_is_logarithmic_where_all_numbers_are_above_0() -> None:
    assert isinstance(scale_of(np.array([1.0, 100.0]), is_log=True), Logarithmic)
    assert isinstance(scale_of(np.array([0.0, 100.0]), is_log=True), Linear)
    assert scale_of(np.array([0.0, 100.0]), margin=0.1) == Linear(0.0, 110.0)
    assert scale_of(np.array([math.nan])) == Linear(0.0, 1.0)
    log = Logarithmic(1.0, 1000.0)
    assert log.positions(np.array([1.0, 10.0, 1000.0])).tolist() == pytest.approx([0, 1 / 3, 1])


def test_points_are_at_their_pixels() -> None:
    pixels = FRAME.pixels([0.0, 5.0, 10.0], [0.0, 0.5, 1.0])
    assert pixels.tolist() == [[100, 70], [200, 45], [300, 20]]
    line = Line("loss", [0, 5], [0.0, 1.0], errors=[0.0, 0.5])
    bars, path, *dots = line.marks(FRAME)
    assert path.attributes["d"] == "M100 70L200 20"
    assert bars.attributes["d"] == "M100 70V70M200 45V19.5"  # the upper end is cut at the edge
    assert [(dot.attributes["cx"], dot.attributes["cy"]) for dot in dots] == [
        ("100", "70"),
        ("200", "20"),
    ]
    (area,) = Area("a", [0, 10], [0.0, 0.0], [0.5, 1.0]).marks(FRAME)
    assert area.attributes["d"] == "M100 45L300 20L300 70L100 70"
    (bar,) = Bars("", [0, 10], [0.5]).marks(FRAME)
    assert (bar.attributes["y"], bar.attributes["height"]) == ("45", "25")
    (rule,) = Rule("limit", 0.5).marks(FRAME)
    assert rule.attributes["d"] == "M100 45h200"


def test_a_thinned_line_keeps_its_peaks_and_ends() -> None:
    points = np.stack([np.arange(10_000.0), np.zeros(10_000)], axis=-1)
    points[7777, 1] = 5.0
    points[3333, 1] = -5.0
    kept = thinned(points, 100)
    assert len(kept) <= 102
    assert (kept[0] == points[0]).all()
    assert (kept[-1] == points[-1]).all()
    assert {5.0, -5.0} <= set(kept[:, 1])
    assert (np.diff(kept[:, 0]) > 0).all()


def test_of_very_many_dots_few_are_drawn_and_the_numbered_ones_stay() -> None:
    x = np.linspace(0, 10, 9001)
    marks = list(Dots("", x, x / 10, numbered=[1234]).marks(FRAME))
    circles = [mark for mark in marks if mark.tag == "circle"]
    assert 1500 <= len(circles) <= 2001
    (number,) = [mark for mark in marks if mark.tag == "text"]
    assert number.text == "1"


@pytest.mark.parametrize(
    ("series", "texts"),
    [
        (Line("NLL", [0, 10], [0.25, 0.5], errors=[0.1, 0]), ["NLL at 0: 0.2500 ± 0.1", "NLL at 10: 0.5000"]),
        (Line("raw", [0], [0.25], is_faint=True), []),
        (Area("layer 1", [0, 5], [0.5, 0.5], [1.0, 0.75]), ["layer 1 at 0: 0.5000", "layer 1 at 5: 0.2500"]),
        (Bars("", [0, 2, 4], [3, 1]), ["0 to 2: 3", "2 to 4: 1"]),
        (Bars("", [0, 1], [3], labels=["layer 0"]), ["layer 0: 3"]),
        (Dots("", [1], [0.5]), ["1, 0.5000"]),
        (Dots("", [1], [0.5], labels=["a text"]), ["a text"]),
        (Rule("limit", 0.5), []),
    ],
)  # fmt: skip
def test_the_pointer_shows_numbers(series: Series, texts: list[str]) -> None:
    assert [point.text for point in series.hover(FRAME)] == texts


def test_hostile_texts_stay_texts() -> None:
    hostile = "</title><script>alert(1)</script>\"'"
    dots = Dots(hostile, [0.0, 1.0], [1.0, 0.0], labels=[hostile, hostile])
    chart = Chart("a", hostile, [dots, Rule(hostile + "2", 0.5)], hostile, hostile)
    assert len(elements(chart, "script")) == 0
    root = ElementTree.fromstring(str(drawn(chart)))
    assert json.loads(root.attrib["data-hover"])[0][2] == hostile


def test_a_legend_names_each_series_once_and_wraps() -> None:
    lines = [
        Line(f"group {i // 2} with a long name", [0, 1], [i, i + 1], i // 2) for i in range(20)
    ]
    chart = Chart("a", "title", lines)
    root = ElementTree.fromstring(drawn_file(chart))
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    names = [text for text in texts if text and text.startswith("group")]
    assert names == [f"group {i} with a long name" for i in range(10)]
    alone = Chart("a", "title", [Line("loss", [0, 1], [0, 1])])
    assert "loss" not in drawn_file(alone)
    dashed = elements(chart, "path", "dashed")
    assert dashed  # colours repeat after eight


def test_single_and_equal_numbers_can_be_drawn() -> None:
    for line in (Line("a", [3], [4.0]), Line("a", [0, 1], [5.0, 5.0]), Line("a", [0, 0], [0, 0])):
        ElementTree.fromstring(drawn_file(Chart("a", "title", [line], is_log_y=True)))


numbers = st.lists(st.floats(), min_size=1, max_size=5)


@given(numbers, numbers, st.booleans())
def test_any_numbers_can_be_drawn(x: list[float], y: list[float], is_log: bool) -> None:
    count = min(len(x), len(y))
    series = [Line("a", x[:count], y[:count]), Dots("b", y[:count], x[:count])]
    chart = Chart("a", "title", series, is_log_x=is_log, is_log_y=is_log)
    text = drawn_file(chart)
    ElementTree.fromstring(text)
    assert "nan" not in text
    assert "inf" not in text
