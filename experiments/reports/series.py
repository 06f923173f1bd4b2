"""The series of charts: lines, areas, bars, dots and rules.

A new form is one class with the methods of :class:`experiments.reports.charts.Series`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.reports.charts import COLOURS, SHADES, Frame, HoverPoint, Mark, Numbers
from experiments.reports.values import spread_text
from experiments.training.metric_names import number_text

__all__ = ["Area", "Bars", "Dots", "Line", "Rule", "thinned"]

MOST_POINTS = 400  # of a line: more than its pixels show
MOST_DOTS = 2000  # of a scatter plot
FEW = 40  # points of a line with markers
RADIUS = 2.5  # of a marker in pixels


@dataclass(frozen=True)
class Line:
    """A line through points, with error bars where there are errors."""

    name: str
    x: Numbers
    y: Numbers
    colour: int = 0
    errors: Numbers | None = None
    is_faint: bool = False
    is_dashed: bool = False
    label: str = ""  # of its points under the pointer; empty: the name

    def __post_init__(self) -> None:
        as_arrays(self, "x", "y", "errors")
        kept = np.isfinite(self.x) & np.isfinite(self.y)
        keep(self, kept, "x", "y", "errors")

    @property
    def css(self) -> str:
        """The classes of colour and dashes."""
        dashes = " dashed" if self.is_dashed or self.colour >= COLOURS else ""
        return f"c{self.colour % COLOURS}{dashes}{' faint' if self.is_faint else ''}"

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return its numbers; errors are inside of the axes."""
        x, y, errors = map(np.asarray, (self.x, self.y, self.errors))
        if self.errors is None:
            return x, y
        return np.concatenate([x, x]), np.concatenate([y - errors, y + errors])

    def marks(self, frame: Frame) -> Iterator[Mark]:
        """Yield error bars, the line, and markers of few points."""
        if self.errors is not None:
            yield self._error_bars(frame)
        points = thinned(frame.pixels(self.x, self.y))
        yield Mark("path", {"class": f"line {self.css}", "d": _path(points)})
        if len(self.x) <= FEW and not self.is_faint:
            for x, y in points.tolist():
                yield Mark("circle", {"class": self.css, "cx": _n(x), "cy": _n(y), "r": RADIUS})

    def hover(self, frame: Frame) -> Iterator[HoverPoint]:
        """Yield its points with both numbers; a faint line has none."""
        if self.is_faint:
            return
        points = frame.pixels(self.x, self.y)
        chosen = _evenly(len(points))
        name = self.label or self.name
        for i in chosen.tolist():
            text = f"{_text(self.x[i])}: {_text(self.y[i])}"
            if self.errors is not None and self.errors[i]:
                text += f" ± {spread_text(self.errors[i])}"
            x, y = points[i].tolist()
            yield HoverPoint(x, y, f"{name} at {text}" if name else text)

    def _error_bars(self, frame: Frame) -> Mark:
        y, errors = map(np.asarray, (self.y, self.errors))
        low = frame.pixels(self.x, y - errors).tolist()
        high = frame.pixels(self.x, y + errors).tolist()
        parts = []
        for (x, bottom), (_, top) in zip(low, high, strict=True):
            parts.append(f"M{_n(x)} {_n(bottom)}V{_n(top)}")
        return Mark("path", {"class": f"errors {self.css}", "d": "".join(parts)})


@dataclass(frozen=True)
class Area:
    """The area between two curves."""

    name: str
    x: Numbers
    low: Numbers
    high: Numbers
    colour: int = 0

    def __post_init__(self) -> None:
        as_arrays(self, "x", "low", "high")
        kept = np.isfinite(self.low) & np.isfinite(self.high)
        keep(self, kept, "x", "low", "high")

    @property
    def css(self) -> str:
        """The class of its colour."""
        return f"c{self.colour % COLOURS}"

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of both curves."""
        return np.concatenate([self.x, self.x]), np.concatenate([self.low, self.high])

    def marks(self, frame: Frame) -> Iterator[Mark]:
        """Yield the area."""
        chosen = _evenly(len(self.x))
        above = frame.pixels(self.x, self.high)[chosen]
        below = frame.pixels(self.x, self.low)[chosen][::-1]
        outline = _path(np.concatenate([above, below]))
        yield Mark("path", {"class": f"area {self.css}", "d": outline})

    def hover(self, frame: Frame) -> Iterator[HoverPoint]:
        """Yield the points of the upper curve with the height of the area."""
        points = frame.pixels(self.x, self.high)
        for i in _evenly(len(points)).tolist():
            x, y = points[i].tolist()
            height = self.high[i] - self.low[i]
            yield HoverPoint(x, y, f"{self.name} at {_text(self.x[i])}: {_text(height)}")


@dataclass(frozen=True)
class Bars:
    """Bars between edges (N + 1), as of a histogram."""

    name: str
    edges: Numbers
    heights: Numbers
    colour: int = 0
    labels: Sequence[str] = ()  # under the pointer; otherwise the edges

    def __post_init__(self) -> None:
        as_arrays(self, "edges", "heights")

    @property
    def css(self) -> str:
        """The class of its colour."""
        return f"c{self.colour % COLOURS}"

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return edges and heights, and 0."""
        return np.asarray(self.edges), np.append(self.heights, 0.0)

    def marks(self, frame: Frame) -> Iterator[Mark]:
        """Yield a rectangle a bar."""
        for left, right, top, bottom in self._boxes(frame):
            box = {
                "x": _n(left + 0.5),
                "y": _n(top),
                "width": _n(max(right - left - 1, 0.5)),
                "height": _n(max(bottom - top, 0)),
            }
            yield Mark("rect", {"class": f"bar {self.css}", **box})

    def hover(self, frame: Frame) -> Iterator[HoverPoint]:
        """Yield the tops of the bars with their edges and heights."""
        for i, (left, right, top, _) in enumerate(self._boxes(frame)):
            span = f"{_text(self.edges[i])} to {_text(self.edges[i + 1])}"
            label = self.labels[i] if self.labels else span
            yield HoverPoint((left + right) / 2, top, f"{label}: {_text(self.heights[i])}")

    def _boxes(self, frame: Frame) -> Iterator[tuple[float, float, float, float]]:
        bottoms = frame.pixels(self.edges, np.zeros(len(self.edges)))
        tops = frame.pixels(self.edges[:-1], self.heights)
        for i in range(len(self.heights)):
            left, bottom = bottoms[i].tolist()
            yield left, float(bottoms[i + 1, 0]), float(tops[i, 1]), bottom


@dataclass(frozen=True)
class Dots:
    """Points of a scatter plot, coloured by numbers in [0, 1] or by one colour."""

    name: str
    x: Numbers
    y: Numbers
    colour: int = 0
    shades: Numbers | None = None
    labels: Sequence[str] = ()  # under the pointer; otherwise both numbers
    numbered: Sequence[int] = ()  # points with a number beside them, from 1

    def __post_init__(self) -> None:
        as_arrays(self, "x", "y", "shades")

    @property
    def css(self) -> str:
        """The class of its colour."""
        return f"c{self.colour % COLOURS}"

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return its numbers."""
        return np.asarray(self.x), np.asarray(self.y)

    def marks(self, frame: Frame) -> Iterator[Mark]:
        """Yield the dots; of very many every second, third, ... is left out, as is NaN."""
        points = frame.pixels(self.x, self.y).tolist()
        for i in self._shown():
            css = self.css
            if self.shades is not None and np.isfinite(self.shades[i]):
                css = f"q{round(float(self.shades[i]) * (SHADES - 1))}"
            x, y = points[i]
            attributes = {"class": f"dot {css}", "cx": _n(x), "cy": _n(y), "r": RADIUS}
            yield Mark("circle", attributes)
        shown = set(self._shown())
        for number, i in enumerate(self.numbered, start=1):
            if i not in shown:
                continue
            x, y = points[i]
            yield Mark("text", {"class": "number", "x": _n(x + 4), "y": _n(y - 4)}, str(number))

    def hover(self, frame: Frame) -> Iterator[HoverPoint]:
        """Yield the dots with their labels, or with both numbers."""
        points = frame.pixels(self.x, self.y).tolist()
        for i in self._shown():
            text = self.labels[i] if self.labels else f"{_text(self.x[i])}, {_text(self.y[i])}"
            x, y = points[i]
            yield HoverPoint(x, y, text)

    def _shown(self) -> list[int]:
        step = -(-len(self.x) // MOST_DOTS) or 1
        kept = set(range(0, len(self.x), step)) | set(self.numbered)
        finite = np.isfinite(self.x) & np.isfinite(self.y)
        return [i for i in sorted(kept) if finite[i]]


@dataclass(frozen=True)
class Rule:
    """A horizontal line across the axes, as of a threshold."""

    name: str
    y: float
    css: str = field(default="rule")

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return its height."""
        return np.empty(0), np.array([self.y])

    def marks(self, frame: Frame) -> Iterator[Mark]:
        """Yield the line."""
        height = frame.top + frame.height * (1 - float(frame.y.positions(np.array([self.y]))[0]))
        across = f"M{_n(frame.left)} {_n(height)}h{_n(frame.width)}"
        yield Mark("path", {"class": "line rule", "d": across})

    def hover(self, frame: Frame) -> Iterator[HoverPoint]:
        """Yield nothing: its name is in the legend."""
        yield from ()


def thinned(points: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return points (N, 2) of a line that looks the same, at most about ``most`` of them.

    Of every block of points the lowest and the highest stay, so that no peak is lost.
    """
    if len(points) <= most:
        return points
    kept = []
    for block in np.array_split(np.arange(len(points)), most // 2):
        heights = points[block, 1]
        kept += sorted({int(block[heights.argmin()]), int(block[heights.argmax()])})
    return points[[0, *(i for i in kept if 0 < i < len(points) - 1), len(points) - 1]]


def as_arrays(series: object, *names: str) -> None:
    """Replace the numbers of a series by arrays of float64; None stays."""
    for name in names:
        values = getattr(series, name)
        if values is not None:
            object.__setattr__(series, name, np.asarray(values, dtype=np.float64))


def keep(series: object, kept: np.ndarray, *names: str) -> None:
    """Leave out the numbers of a series where ``kept`` is false."""
    for name in names:
        values = getattr(series, name)
        if values is not None:
            object.__setattr__(series, name, values[kept])


def _path(points: np.ndarray) -> str:
    pairs = [f"{_n(x)} {_n(y)}" for x, y in points.tolist()]
    return "M" + "L".join(pairs) if pairs else ""


def _evenly(count: int) -> np.ndarray:
    """Return the indices of at most :data:`MOST_POINTS` points at equal distances."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS), dtype=int))


def _n(value: float) -> str:
    """Return pixels with one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def _text(value: float) -> str:
    number = float(value)
    return number_text(int(number) if number.is_integer() else number)
