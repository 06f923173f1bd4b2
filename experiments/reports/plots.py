"""The figures of a report, from rows of metrics; each is ``None`` when the rows hold nothing to draw.

Figures are made without pyplot: no global state, no display, and nothing to close.
"""

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = [
    "kl_layers",
    "latent_use",
    "overlay",
    "png",
    "points",
    "scores",
    "similarity",
    "spread_out",
    "train_loss",
]
__all__ += ["validation"]

Rows = Sequence[Mapping[str, Any]]
BLUE = "#1f6fb4"
ORANGE = "#d9690f"
GREEN = "#2a8c4a"
GREY = "#888888"
LABELLED = 12  # points of a map that carry a number


def column(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of the rows that hold a finite number under ``name``."""
    found = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    pairs = np.array(found, dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs[:, 1])]
    return pairs[:, 0], pairs[:, 1]


def train_loss(rows: Rows) -> Figure | None:
    """Training loss by step, every row and a running median, with the learning rate below."""
    steps, loss = column(rows, "loss")
    if not len(steps):
        return None
    figure, (above, below) = _figure(2, heights=(3, 1))
    above.plot(
        steps, loss, color=BLUE, alpha=0.35, linewidth=0.8, marker="." if len(steps) < 30 else ""
    )
    above.plot(steps, _running_median(loss), color=BLUE, linewidth=1.6, label="running median")
    above.set_ylabel("training loss")
    low, high = np.percentile(loss, [0, 98])  # the first steps would flatten all that follow
    if high > low:
        above.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
    above.legend(frameon=False)
    below.plot(*column(rows, "lr"), color=GREY)
    below.set_ylabel("learning\nrate")
    below.set_xlabel("step")
    return figure


def validation(rows: Rows) -> Figure | None:
    """Negative log-likelihood with its standard error, and the bound above it, in nats per datum."""
    steps, nll = column(rows, "nll_nats")
    if not len(steps):
        return None
    figure, (axes,) = _figure(1)
    bound_steps, elbo = column(rows, "elbo_nats")
    axes.plot(bound_steps, -elbo, color=ORANGE, marker=".", label="-ELBO (an upper bound)")
    errors = [
        row.get("nll_standard_error") or 0.0 for row in rows if len(column([row], "nll_nats")[0])
    ]
    axes.errorbar(
        steps, nll, yerr=errors, color=BLUE, marker=".", capsize=2, label="NLL ± standard error"
    )
    axes.set_ylabel("nats per datum")
    axes.set_xlabel("step")
    axes.legend(frameon=False)
    return figure


def kl_layers(rows: Rows) -> Figure | None:
    """KL of every latent layer, stacked, in nats per datum."""
    known = [row for row in rows if row.get("kl_nats") and None not in row["kl_nats"]]
    if not known:
        return None
    figure, (axes,) = _figure(1)
    steps = [row["step"] for row in known]
    layers = np.array([row["kl_nats"] for row in known], dtype=np.float64).T
    names = [f"layer {i}" for i in range(len(layers))]
    if len(known) == 1:  # an area needs two steps
        axes.bar(names, layers[:, 0], color=BLUE)
    else:
        axes.stackplot(steps, layers, labels=names, colors=_shades(len(layers)))
        axes.set_xlabel("step")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1], labels[::-1], frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
        )
    axes.set_ylabel("KL (nats per datum)")
    return figure


def latent_use(rows: Rows) -> Figure | None:
    """Active units.

    Mutual information between datum and latent, under the most its estimator can show.
    """
    if not any(len(column(rows, name)[0]) for name in ("active_units", "mutual_information_nats")):
        return None
    figure, (above, below) = _figure(2, heights=(1, 2))
    above.plot(*column(rows, "active_units"), color=GREEN, marker=".")
    above.set_ylabel("active units")
    above.set_ylim(bottom=0)
    below.plot(
        *column(rows, "mutual_information_ceiling_nats"),
        color=GREY,
        linestyle="--",
        label="ceiling",
    )
    below.plot(
        *column(rows, "mutual_information_nats"), color=BLUE, marker=".", label="mutual information"
    )
    below.plot(
        *column(rows, "shuffled_gap_nats"),
        color=ORANGE,
        marker=".",
        label="loss with shuffled latents",
    )
    below.set_ylabel("nats per datum")
    below.set_xlabel("step")
    below.legend(frameon=False)
    return figure


def similarity(rows: Rows) -> Figure | None:
    """How well a sentence model ranks and retrieves held-out texts.

    Below, what writing them costs.
    """
    ranked = {"spearman": "Spearman", "recall_at_1": "recall at 1", "recall_at_10": "recall at 10"}
    known = {
        label: column(rows, name) for name, label in ranked.items() if len(column(rows, name)[0])
    }
    if not known:
        return None
    figure, (above, below) = _figure(2, heights=(2, 1))
    for (label, curve), color in zip(known.items(), (BLUE, ORANGE, GREEN), strict=False):
        above.plot(*curve, color=color, marker=".", label=label)
    above.set_ylim(top=1.02)
    above.set_ylabel("held-out texts")
    above.legend(frameon=False)
    below.plot(*column(rows, "generation_nats_per_token"), color=BLUE, marker=".")
    below.set_ylabel("writing, nats\nper token")
    below.set_xlabel("step")
    return figure


def points(item: Mapping[str, Any]) -> Figure:
    """A map of points, coloured by a number; those of :func:`spread_out` carry numbers from 1."""
    figure, (axes,) = _figure(1, height=5.5)
    color = item.get("color")
    drawn = axes.scatter(
        item["x"],
        item["y"],
        c=color if color else BLUE,
        s=14,
        cmap="viridis",
        alpha=0.8,
        linewidths=0,
    )
    if color:
        label = "".join(c if c.isprintable() else "?" for c in item.get("color_label", ""))
        figure.colorbar(drawn, ax=axes).set_label(label, parse_math=False)
    for number, i in enumerate(spread_out(item["x"], item["y"]), start=1):
        at = (item["x"][i], item["y"][i])
        axes.annotate(
            str(number),
            at,
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
        )
    return figure


def scores(item: Mapping[str, Any]) -> Figure:
    """Log-likelihoods of data: their histogram, the bound by number of samples, and k-hat of each."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    values = np.array(item["log_likelihood"], dtype=float)
    khat = np.array(item["khat"], dtype=float)
    left.hist(values[np.isfinite(values)], bins=40, color=BLUE)
    left.set(xlabel="log-likelihood, nats", ylabel="data")
    middle.plot(item["ladder"]["samples"], item["ladder"]["nats"], color=ORANGE, marker=".")
    middle.set(xscale="log", xlabel="importance samples", ylabel="mean estimate, nats")
    known = np.isfinite(khat) & np.isfinite(values)
    right.scatter(values[known], khat[known], s=8, color=BLUE, alpha=0.6, linewidths=0)
    threshold = item["totals"].get("khat_threshold")
    right.axhline(
        0.7 if threshold is None else threshold,
        color=GREY,
        linestyle="--",
        label="above: unreliable",
    )
    right.set(xlabel="log-likelihood, nats", ylabel="k-hat")
    right.legend(frameon=False)
    return figure


def spread_out(x: Sequence[float], y: Sequence[float], count: int = LABELLED) -> list[int]:
    """Return ``count`` points far from each other: each next is the one farthest from those before it."""
    xy = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=-1)
    chosen = list[int]()
    distance = np.square(xy - xy.mean(0)).sum(-1) if len(xy) else np.zeros(0)
    for _ in range(min(count, len(xy))):
        chosen.append(int(distance.argmax()))
        nearest = np.square(xy - xy[chosen[-1]]).sum(-1)
        distance = nearest if len(chosen) == 1 else np.minimum(distance, nearest)
    return chosen


def overlay(
    curves: Mapping[str, Sequence[Rows]], name: str = "nll_nats", label: str = ""
) -> Figure | None:
    """A number of the validations of groups of runs by step, one colour a group and one line a run."""
    shades = dict(zip(curves, _shades(len(curves)), strict=True))
    lines = [(group, *column(rows, name)) for group, runs in curves.items() for rows in runs]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return None
    figure, (axes,) = _figure(1)
    for i, (group, steps, values) in enumerate(lines):
        first = group not in [other[0] for other in lines[:i]]
        axes.plot(steps, values, color=shades[group], marker=".", label=group if first else None)
    axes.set_ylabel(label or "validation NLL (nats per datum)")
    axes.set_xlabel("step")
    axes.legend(frameon=False)
    return figure


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG on white."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        # a script the font lacks leaves boxes and no report less
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return buffer.getvalue()


def _figure(
    count: int, heights: Sequence[float] = (1,), height: float = 4.0
) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = {"height_ratios": list(heights)}
    axes = figure.subplots(count, 1, sharex=True, squeeze=False, gridspec_kw=ratios)[:, 0].tolist()
    for each in axes:
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _shades(count: int) -> list[Any]:
    """Colours that stay apart in grey and to the colour-blind."""
    return [colormaps["viridis"](0.9 * i / max(count - 1, 1)) for i in range(count)]


def _running_median(values: np.ndarray) -> np.ndarray:
    half = max(len(values) // 40, 1)
    return np.array(
        [np.median(values[max(i - half, 0) : i + half + 1]) for i in range(len(values))]
    )
