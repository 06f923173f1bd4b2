"""Curves by step, from rows of metrics; a function returns None where there is no number."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.figure import Figure

from experiments.reports.figures import BLUE, GREEN, GREY, ORANGE, shades, stacked_axes
from univae.checkpoint import JsonObject

__all__ = [
    "column",
    "distance",
    "kl_layers",
    "latent_use",
    "overlay",
    "similarity",
    "train_loss",
    "validation",
]

Rows: TypeAlias = Sequence[JsonObject]

FEW = 30  # rows; shorter curves have markers
AXIS_PERCENTILES = (0, 98)  # range of the axis of the loss, without the high first steps
WINDOWS = 40  # windows of the running median in a curve
RANKS = {"spearman": "Spearman", "recall_at_1": "recall at 1", "recall_at_10": "recall at 10"}


def column(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of the rows that hold a finite number under ``name``."""
    numbers = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    pairs = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs[:, 1])]
    return pairs[:, 0], pairs[:, 1]


def train_loss(rows: Rows) -> Figure | None:
    """Draw the training loss, row by row and as a running median, with the learning rate below."""
    steps, loss = column(rows, "loss")
    if not len(steps):
        return None

    figure, (above, below) = stacked_axes(2, heights=(3, 1))
    marker = "." if len(steps) < FEW else ""
    above.plot(steps, loss, color=BLUE, alpha=0.35, linewidth=0.8, marker=marker)
    above.plot(steps, _running_median(loss), color=BLUE, linewidth=1.6, label="running median")
    above.set_ylabel("training loss")
    low, high = np.percentile(loss, AXIS_PERCENTILES)
    if high > low:
        above.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
    above.legend(frameon=False)

    below.plot(*column(rows, "lr"), color=GREY)
    below.set_ylabel("learning\nrate")
    below.set_xlabel("step")
    return figure


def validation(rows: Rows) -> Figure | None:
    """Draw the negative log-likelihood with its standard error, and its upper bound, in nats."""
    steps, nll = column(rows, "nll_nats")
    if not len(steps):
        return None

    figure, (axes,) = stacked_axes(1)
    bound_steps, elbo = column(rows, "elbo_nats")
    axes.plot(bound_steps, -elbo, color=ORANGE, marker=".", label="-ELBO (an upper bound)")
    errors = []
    for row in rows:
        if len(column([row], "nll_nats")[0]):
            errors.append(row.get("nll_standard_error") or 0.0)
    label = "NLL ± standard error"
    axes.errorbar(steps, nll, yerr=errors, color=BLUE, marker=".", capsize=2, label=label)
    axes.set_ylabel("nats per datum")
    axes.set_xlabel("step")
    axes.legend(frameon=False)
    return figure


def kl_layers(rows: Rows) -> Figure | None:
    """Draw the KL of every latent layer, stacked, in nats per row of the data."""
    complete = [row for row in rows if row.get("kl_nats") and None not in row["kl_nats"]]
    if not complete:
        return None

    figure, (axes,) = stacked_axes(1)
    steps = [row["step"] for row in complete]
    layers = np.array([row["kl_nats"] for row in complete], dtype=np.float64).T
    names = [f"layer {i}" for i in range(len(layers))]
    if len(complete) == 1:  # an area needs two steps
        axes.bar(names, layers[:, 0], color=BLUE)
    else:
        axes.stackplot(steps, layers, labels=names, colors=shades(len(layers)))
        axes.set_xlabel("step")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1], labels[::-1], frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
        )
    axes.set_ylabel("KL (nats per datum)")
    return figure


def latent_use(rows: Rows) -> Figure | None:
    """Draw active units, and below them the mutual information of row and latent.

    The ceiling is the largest value of the estimator of the mutual information.
    """
    if not any(len(column(rows, name)[0]) for name in ("active_units", "mutual_information_nats")):
        return None

    figure, (above, below) = stacked_axes(2, heights=(1, 2))
    above.plot(*column(rows, "active_units"), color=GREEN, marker=".")
    above.set_ylabel("active units")
    above.set_ylim(bottom=0)

    ceiling = column(rows, "mutual_information_ceiling_nats")
    information = column(rows, "mutual_information_nats")
    gap = column(rows, "shuffled_gap_nats")
    below.plot(*ceiling, color=GREY, linestyle="--", label="ceiling")
    below.plot(*information, color=BLUE, marker=".", label="mutual information")
    below.plot(*gap, color=ORANGE, marker=".", label="loss with shuffled latents")
    below.set_ylabel("nats per datum")
    below.set_xlabel("step")
    below.legend(frameon=False)
    return figure


def similarity(rows: Rows) -> Figure | None:
    """Draw rank correlation and recall of a sentence model, and below the nats per token."""
    curves = {}
    for name, label in RANKS.items():
        curve = column(rows, name)
        if len(curve[0]):
            curves[label] = curve
    if not curves:
        return None

    figure, (above, below) = stacked_axes(2, heights=(2, 1))
    for (label, curve), color in zip(curves.items(), (BLUE, ORANGE, GREEN), strict=False):
        above.plot(*curve, color=color, marker=".", label=label)
    above.set_ylim(top=1.02)
    above.set_ylabel("held-out texts")
    above.legend(frameon=False)

    below.plot(*column(rows, "generation_nats_per_token"), color=BLUE, marker=".")
    below.set_ylabel("generation,\nnats per token")
    below.set_xlabel("step")
    return figure


def distance(rows: Rows) -> Figure | None:
    """Draw the Fréchet distance of generated rows, and below precision and recall."""
    steps, values = column(rows, "frechet_distance")
    if not len(steps):
        return None

    figure, (above, below) = stacked_axes(2, heights=(3, 2))
    above.plot(steps, values, color=BLUE, marker=".")
    if values.min() > 0:
        above.set_yscale("log")
    above.set_ylabel("Fréchet distance")

    below.plot(*column(rows, "precision"), color=GREEN, marker=".", label="precision")
    below.plot(*column(rows, "recall"), color=ORANGE, marker=".", label="recall")
    below.set_ylim(-0.02, 1.02)
    below.set_xlabel("step")
    below.legend(frameon=False)
    return figure


def overlay(
    curves: Mapping[str, Sequence[Rows]], name: str = "nll_nats", label: str = ""
) -> Figure | None:
    """Draw a metric of validations by step: one colour per group of runs, one line per run."""
    lines = []
    for group, runs in curves.items():
        for rows in runs:
            steps, values = column(rows, name)
            if len(steps):
                lines.append((group, steps, values))
    if not lines:
        return None

    figure, (axes,) = stacked_axes(1)
    colours = dict(zip(curves, shades(len(curves)), strict=True))
    in_legend = set()
    for group, steps, values in lines:
        group_label = None if group in in_legend else group
        axes.plot(steps, values, color=colours[group], marker=".", label=group_label)
        in_legend.add(group)
    axes.set_ylabel(label or "validation NLL (nats per datum)")
    axes.set_xlabel("step")
    axes.legend(frameon=False)
    return figure


def _running_median(values: np.ndarray) -> np.ndarray:
    half = max(len(values) // WINDOWS, 1)
    medians = []
    for i in range(len(values)):
        medians.append(np.median(values[max(i - half, 0) : i + half + 1]))
    return np.array(medians)
