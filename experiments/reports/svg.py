"""Charts as SVG, inside a page or as a file of its own."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from experiments.reports.charts import SHADES, Chart, Frame, Series
from experiments.reports.scales import Linear, Scale, scale_of, tick_texts
from experiments.reports.series import Rule
from experiments.reports.templating import render

__all__ = ["drawn", "drawn_file"]

WIDTH = 440  # pixels of the picture; a page scales it
AXES_HEIGHT = 190
LINE = 18  # pixels of a line of text
CHARACTER = 7.1  # pixels of a character of 13 pixels, at most on average
WIDE = 13.5  # the same of Chinese, Japanese and Korean ones
SWATCH = 20  # pixels of the colour of an entry of the legend
GAP = 12  # pixels between entries
LEFT, RIGHT, BOTTOM = 1, 18, 46  # margins; that on the left is wider by the texts of the ticks
LONGEST_NAME = 54  # characters of an entry of the legend
LONGEST_HOVER = 160  # characters
NAMES_APART = 8  # pixels between names along the axis


@dataclass(frozen=True)
class Text:
    """A text at a place in pixels."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Entry:
    """An entry of the legend: the text, and the classes of its colour."""

    x: float
    y: float
    text: str
    css: str


def drawn(chart: Chart) -> Markup:
    """Return a chart as an element of a page."""
    return Markup(render("chart.svg", **_geometry(chart), is_file=False))


def drawn_file(chart: Chart) -> str:
    """Return a chart as a file, with the colours of a light page."""
    return render("chart.svg", **_geometry(chart), is_file=True)


def _geometry(chart: Chart) -> dict[str, object]:
    """Return everything that the template writes, in pixels."""
    x, y = _scales(chart)
    x_ticks = _x_texts(chart, x)
    y_ticks = [tick for tick in y.ticks if 0 <= _position(y, tick) <= 1]
    y_texts = tick_texts(y_ticks)
    entries, lines = _legend(chart)
    top = LINE * (lines + bool(chart.y_label) + bool(chart.shades)) + 10
    left = LEFT + max(map(_text_width, y_texts), default=0.0) + 8
    frame = Frame(x, y, left, top, WIDTH - left - RIGHT, AXES_HEIGHT)
    bottom = top + AXES_HEIGHT
    first_line = LINE * bool(chart.y_label)
    marks = [mark for series in chart.series for mark in series.marks(frame)]
    hover = [point for series in chart.series for point in series.hover(frame)]

    return {
        "chart": chart,
        "alt": chart.alt or chart.title,
        "width": WIDTH,
        "height": bottom + BOTTOM,
        "frame": frame,
        "bottom": bottom,
        "x_ticks": _along(x_ticks, frame),
        "y_ticks": [
            Text(left, bottom - AXES_HEIGHT * _position(y, tick), text)
            for tick, text in zip(y_ticks, y_texts, strict=True)
        ],
        "entries": [replace(entry, y=entry.y + first_line) for entry in entries],
        "shade_line": first_line + LINE * lines + 13,
        "shade_start": LEFT + _text_width(chart.shades[1]) + 6 if chart.shades else 0,
        "shade_count": SHADES,
        "marks": marks,
        "hover": json.dumps(
            [[round(p.x, 1), round(p.y, 1), p.text[:LONGEST_HOVER]] for p in hover],
            ensure_ascii=False,
            separators=(",", ":"),
        ),
    }


def _scales(chart: Chart) -> tuple[Scale, Scale]:
    """Return the scales on which all series fit."""
    extents = [series.extent() for series in chart.series]
    across = np.concatenate([x for x, _ in extents])
    up = np.concatenate([y for _, y in extents])
    x = scale_of(across, is_log=chart.is_log_x, margin=0.02)
    if chart.y_range is not None:
        return x, Linear(*chart.y_range)
    return x, scale_of(up, is_log=chart.is_log_y)


def _x_texts(chart: Chart, scale: Scale) -> list[tuple[float, str]]:
    """Return positions and texts of the ticks of the horizontal axis."""
    ticks = scale.ticks
    texts = tick_texts(ticks)
    if chart.x_names:
        ticks = [index + 0.5 for index in range(len(chart.x_names))]
        texts = list(chart.x_names)
    return [(_position(scale, tick), text) for tick, text in zip(ticks, texts, strict=True)]


def _along(ticks: Sequence[tuple[float, str]], frame: Frame) -> list[Text]:
    """Return the ticks of the horizontal axis whose texts do not touch."""
    placed: list[Text] = []
    end = -np.inf
    for position, text in ticks:
        x = frame.left + frame.width * position
        half = _text_width(text) / 2
        if not -0.01 <= position <= 1.01 or x - half < end or x + half > WIDTH:
            continue
        placed.append(Text(x, frame.top + frame.height, text))
        end = x + half + NAMES_APART
    return placed


def _legend(chart: Chart) -> tuple[list[Entry], int]:
    """Return the entries of the legend, and the number of its lines; none for one series."""
    entries: list[Entry] = []
    named = _named(chart.series)
    if len(named) + sum(isinstance(series, Rule) for series in named) < 2:
        return [], 0
    x, line = float(LEFT), 0
    for series in named:
        text = shortened(series.name)
        width = SWATCH + _text_width(text) + GAP
        if x > LEFT and x + width > WIDTH:
            x, line = float(LEFT), line + 1
        entries.append(Entry(x, LINE * line + 13, text, series.css))
        x += width
    return entries, line + 1


def _named(series: Sequence[Series]) -> list[Series]:
    """Return the first series of each name."""
    by_name: dict[str, Series] = {}
    for each in series:
        if each.name:
            by_name.setdefault(each.name, each)
    return list(by_name.values())


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a text with an ellipsis in place of its end, if it is long."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _position(scale: Scale, value: float) -> float:
    return float(scale.positions(np.array([value]))[0])


def _text_width(text: str) -> float:
    return sum(_character_widths(text))


def _character_widths(text: str) -> Iterator[float]:
    for character in text:
        yield WIDE if unicodedata.east_asian_width(character) in "WF" else CHARACTER
