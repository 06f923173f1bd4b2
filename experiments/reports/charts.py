"""Charts as data: a title, two axes and series, which :mod:`experiments.reports.svg` draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from experiments.reports.scales import Scale

__all__ = ["COLOURS", "SHADES", "Chart", "Frame", "HoverPoint", "Mark", "Numbers", "Series"]

Numbers: TypeAlias = Sequence[float] | np.ndarray

COLOURS = 8  # of the style sheet; further series have these again, dashed
SHADES = 7  # of dots that are coloured by a number


@dataclass(frozen=True)
class Mark:
    """An element of SVG."""

    tag: str
    attributes: dict[str, object]
    text: str = ""


@dataclass(frozen=True)
class HoverPoint:
    """A point that shows text under the pointer."""

    x: float  # pixels
    y: float
    text: str


@dataclass(frozen=True)
class Frame:
    """The scales of a chart, and the rectangle of its axes in pixels."""

    x: Scale
    y: Scale
    left: float
    top: float
    width: float
    height: float

    def pixels(self, x: Numbers, y: Numbers) -> np.ndarray:
        """Return the pixels (N, 2) of points, those outside of the axes at their edge."""
        across = self.x.positions(np.asarray(x))
        up = self.y.positions(np.asarray(y))
        columns = [
            self.left + self.width * np.clip(across, -0.01, 1.01),
            self.top + self.height * (1 - np.clip(up, -0.01, 1.01)),
        ]
        return np.stack(columns, axis=-1)


@runtime_checkable
class Series(Protocol):
    """What a chart draws."""

    @property
    def name(self) -> str:
        """Its name in the legend; empty: it has no entry there."""
        ...

    @property
    def css(self) -> str:
        """The classes of its colour and dashes."""
        ...

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers that the axes must show."""
        ...

    def marks(self, frame: Frame) -> Iterator[Mark]:
        """Yield its elements."""
        ...

    def hover(self, frame: Frame) -> Iterator[HoverPoint]:
        """Yield the points that show text under the pointer."""
        ...


@dataclass(frozen=True)
class Chart:
    """Series over common axes."""

    name: str  # of its file in plots/
    title: str
    series: Sequence[Series]
    x_label: str = "step"
    y_label: str = ""
    is_log_x: bool = False
    is_log_y: bool = False
    y_range: tuple[float, float] | None = None  # None: all numbers
    x_names: Sequence[str] = ()  # names in place of ticks at 0, 1, ...
    shades: tuple[str, str, str] | None = None  # what colours dots: label, lowest, highest
    alt: str = ""  # describes the chart in words; empty: the title
