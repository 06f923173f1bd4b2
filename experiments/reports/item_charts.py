"""Charts of the items of ``samples/``: scatter plots of codes, and scores of data."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.reports.charts import Chart
from experiments.reports.series import Bars, Dots, Line, Rule
from experiments.reports.values import brief
from univae.checkpoint import JsonObject

__all__ = ["PANELS", "points", "scores", "spread_out"]

LABELLED = 12  # numbered points of a scatter plot
MANY_SAMPLES = 0.7  # threshold of k-hat for many samples; default of items without a threshold
BINS = 40  # of a histogram
LOG_LIKELIHOOD = "log-likelihood (nats)"


def points(item: JsonObject) -> Chart:
    """Return a scatter plot, coloured by a number; :func:`spread_out` points are numbered."""
    x = np.asarray(item["x"], dtype=np.float64)
    y = np.asarray(item["y"], dtype=np.float64)
    labels = [str(label) for label in item.get("labels") or ()]
    shades = None
    scale = None
    if item.get("color"):
        values = np.asarray(item["color"], dtype=np.float64)
        low = float(np.nanmin(values))
        high = float(np.nanmax(values))
        shades = np.nan_to_num((values - low) / (high - low or 1.0))
        scale = (str(item.get("color_label", "")), brief(low), brief(high))
    numbered = spread_out(x, y) if labels else []
    dots = Dots("", x, y, shades=shades, labels=labels, numbered=numbered)
    return Chart("map", str(item["title"]), [dots], x_label="", shades=scale)


def scores(item: JsonObject) -> list[Chart]:
    """Return a histogram of log-likelihoods, and those of :data:`PANELS` that the item has."""
    values = np.array(item["log_likelihood"], dtype=float)
    values = values[np.isfinite(values)]
    charts = []
    if len(values):
        heights, edges = np.histogram(values, bins=BINS)
        bars = Bars("", edges, heights)
        title = "Log-likelihood of the data"
        charts.append(Chart("histogram", title, [bars], LOG_LIKELIHOOD, "number of data"))
    panels = [draw(item) for name, draw in PANELS.items() if item.get(name) is not None]
    return charts + [chart for chart in panels if chart is not None]


def _ladder(item: JsonObject) -> Chart:
    """Return the mean estimate by number of samples."""
    line = Line("", item["ladder"]["samples"], item["ladder"]["nats"], colour=1)
    title = "Mean estimate by number of samples"
    label = "importance samples"
    return Chart("ladder", title, [line], label, "nats per datum", is_log_x=True)


def _khat(item: JsonObject) -> Chart | None:
    """Return the k-hat of each datum by its log-likelihood, and the threshold."""
    dots = _scatter(item, "khat")
    if dots is None:
        return None
    title = "k-hat of each datum"
    threshold = item["totals"].get("khat_threshold", MANY_SAMPLES)
    if threshold is None:
        return Chart("khat", title, [dots], LOG_LIKELIHOOD, "k-hat")
    rule = Rule(f"above {threshold:.2f}: unreliable", float(threshold))
    return Chart("khat", title, [dots, rule], LOG_LIKELIHOOD, "k-hat")


def _chains(item: JsonObject) -> Chart | None:
    """Return the effective chains of each datum by its log-likelihood."""
    dots = _scatter(item, "effective_chains")
    if dots is None:
        return None
    title = "Effective chains of each datum"
    return Chart("chains", title, [dots], LOG_LIKELIHOOD, "effective chains")


def _samples(item: JsonObject) -> Chart | None:
    """Return the number of samples of each datum by its log-likelihood."""
    dots = _scatter(item, "samples")
    if dots is None:
        return None
    title = "Samples of each datum"
    label = "importance samples"
    return Chart("samples", title, [dots], LOG_LIKELIHOOD, label, is_log_y=True)


def _scatter(item: JsonObject, name: str) -> Dots | None:
    """Return a column of the item by log-likelihood; None where no pair is finite."""
    x = np.array(item["log_likelihood"], dtype=float)
    y = np.array(item[name], dtype=float)
    finite = np.isfinite(x) & np.isfinite(y)
    return Dots("", x[finite], y[finite]) if finite.any() else None


# Key of an item of scores -> the chart of it.
PANELS: Mapping[str, Callable[[JsonObject], Chart | None]] = {
    "ladder": _ladder,
    "khat": _khat,
    "effective_chains": _chains,
    "samples": _samples,
}


def spread_out(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, count: int = LABELLED
) -> list[int]:
    """Return the indices of ``count`` points that are far from each other.

    The first is the farthest from the mean; each next one is the farthest from those before it.
    """
    columns = [np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)]
    xy = np.stack(columns, axis=-1)
    if not len(xy):
        return []

    first = int(np.square(xy - xy.mean(0)).sum(-1).argmax())
    chosen = [first]
    distance = np.square(xy - xy[first]).sum(-1)
    while len(chosen) < min(count, len(xy)):
        farthest = int(distance.argmax())
        chosen.append(farthest)
        distance = np.minimum(distance, np.square(xy - xy[farthest]).sum(-1))
    return chosen
