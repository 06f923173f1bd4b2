"""Figures of the items of ``samples/``: scatter plots of codes, and scores of rows."""

from collections.abc import Sequence

import numpy as np
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
    """Draw log-likelihoods: histogram, mean estimate by number of samples, and k-hat of each."""
    figure = empty_figure(11, 3.6)
    left, middle, right = figure.subplots(1, 3)
    values = np.array(item["log_likelihood"], dtype=float)
    khat = np.array(item["khat"], dtype=float)

    left.hist(values[np.isfinite(values)], bins=40, color=BLUE)
    left.set(xlabel="log-likelihood, nats", ylabel="data")

    middle.plot(item["ladder"]["samples"], item["ladder"]["nats"], color=ORANGE, marker=".")
    middle.set(xscale="log", xlabel="importance samples", ylabel="mean estimate, nats")

    finite = np.isfinite(khat) & np.isfinite(values)
    right.scatter(values[finite], khat[finite], s=8, color=BLUE, alpha=0.6, linewidths=0)
    threshold = item["totals"].get("khat_threshold", MANY_SAMPLES)
    right.set(xlabel="log-likelihood, nats", ylabel="k-hat")
    if threshold is None:
        right.set_title(item["totals"].get("khat_note", "no k-hat"), fontsize=9)
    else:
        right.axhline(threshold, color=GREY, linestyle="--", label="above: unreliable")
        right.legend(frameon=False)
    return figure


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
