"""Figures and their colours, without pyplot, which has global state and needs a display."""

import warnings
from collections.abc import Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "ORANGE", "png", "stacked_axes"]

BLUE = "#1f6fb4"
ORANGE = "#d9690f"
GREY = "#888888"
WIDTH = 8.0  # inches


def _empty_figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches, with the backend that draws PNG."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def stacked_axes(
    count: int, heights: Sequence[float] = (1,), height: float = 4.0
) -> tuple[Figure, list[Axes]]:
    """Return a figure of axes below each other, with a common horizontal axis and grids.

    ``heights`` are relative to each other, ``height`` is that of the figure in inches.
    """
    figure = _empty_figure(WIDTH, height)
    ratios = {"height_ratios": list(heights)}
    grid = figure.subplots(count, 1, sharex=True, squeeze=False, gridspec_kw=ratios)
    axes = grid[:, 0].tolist()
    for each in axes:
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG on white."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        # matplotlib draws boxes for characters that the font lacks
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return buffer.getvalue()
