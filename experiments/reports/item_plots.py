"""Figures of the items of ``samples/``: scatter plots of codes, and scores of rows."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reports.figures import BLUE, GREY, ORANGE, empty_figure, stacked_axes
from univae.checkpoint import JsonObject

__all__ = ["points", "scores", "spread_out"]

LABELLED = 12  # numbered points of a scatter plot
MANY_SAMPLES = 0.7  # threshold of k-hat for many samples; default of items without a threshold


def points(item: JsonObject) -> Figure:
    """Draw a scatter plot, coloured by a number; :func:`spread_out` points are numbered from 1."""
    figure, (axes,) = stacked_axes(1, height=5.5)
    color = item.get("color")
    # matplotlib warns of a colour map without numbers to map
    colouring = {"c": color, "cmap": "viridis"} if color else {"c": BLUE}
    scatter = axes.scatter(item["x"], item["y"], s=14, alpha=0.8, linewidths=0, **colouring)
    if color:
        label = "".join(c if c.isprintable() else "?" for c in item.get("color_label", ""))
        figure.colorbar(scatter, ax=axes).set_label(label, parse_math=False)

    for number, i in enumerate(spread_out(item["x"], item["y"]), start=1):
        axes.annotate(
            str(number),
            (item["x"][i], item["y"][i]),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
        )
    return figure


def scores(item: JsonObject) -> Figure:
    """Draw log-likelihoods: a histogram, and those panels of :data:`PANELS` that the item has."""
    names = [name for name in PANELS if item.get(name) is not None]
    figure = empty_figure(11, 3.6)
    left, *others = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    values = np.array(item["log_likelihood"], dtype=float)
    left.hist(values[np.isfinite(values)], bins=40, color=BLUE)
    left.set(xlabel="log-likelihood, nats", ylabel="data")
    for name, axes in zip(names, others, strict=True):
        PANELS[name](axes, item)
    return figure


def _draw_ladder(axes: Axes, item: JsonObject) -> None:
    """Draw the mean estimate by number of samples."""
    axes.plot(item["ladder"]["samples"], item["ladder"]["nats"], color=ORANGE, marker=".")
    axes.set(xscale="log", xlabel="importance samples", ylabel="mean estimate, nats")


def _draw_khat(axes: Axes, item: JsonObject) -> None:
    """Draw the k-hat of each row by its log-likelihood, and the threshold."""
    _scatter(axes, item, "khat", "k-hat")
    threshold = item["totals"].get("khat_threshold", MANY_SAMPLES)
    if threshold is None:
        axes.set_title(item["totals"].get("khat_note", "no k-hat"), fontsize=9)
        return
    axes.axhline(threshold, color=GREY, linestyle="--", label="above: unreliable")
    axes.legend(frameon=False)


def _draw_chains(axes: Axes, item: JsonObject) -> None:
    """Draw the effective chains of each row by its log-likelihood."""
    _scatter(axes, item, "effective_chains", "effective chains")


def _draw_samples(axes: Axes, item: JsonObject) -> None:
    """Draw the number of samples of each row by its log-likelihood."""
    _scatter(axes, item, "samples", "importance samples")
    axes.set(yscale="log")


def _scatter(axes: Axes, item: JsonObject, name: str, label: str) -> None:
    x = np.array(item["log_likelihood"], dtype=float)
    y = np.array(item[name], dtype=float)
    finite = np.isfinite(x) & np.isfinite(y)
    axes.scatter(x[finite], y[finite], s=8, color=BLUE, alpha=0.6, linewidths=0)
    axes.set(xlabel="log-likelihood, nats", ylabel=label)


# Key of an item of scores -> the panel that draws it.
PANELS: Mapping[str, Callable[[Axes, JsonObject], None]] = {
    "ladder": _draw_ladder,
    "khat": _draw_khat,
    "effective_chains": _draw_chains,
    "samples": _draw_samples,
}


def spread_out(x: Sequence[float], y: Sequence[float], count: int = LABELLED) -> list[int]:
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
