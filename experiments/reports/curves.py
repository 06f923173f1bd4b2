"""Curves by step from rows of metrics, as charts; a function leaves out what the rows lack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from experiments.reports.charts import Area, Bars, Chart, Line
from univae.checkpoint import JsonObject

__all__ = [
    "COMPARED",
    "DISTANCES",
    "PLAYERS",
    "RANKS",
    "column",
    "kl_layers",
    "latent_use",
    "lines",
    "overlay",
    "training",
    "validation",
]

Rows: TypeAlias = Sequence[JsonObject]

RANGE_PERCENTILES = (0, 98)  # range of the axis of the loss, without the high first steps
WINDOWS = 40  # windows of the running median in a curve
UNIT = (-0.02, 1.02)  # range of the axis of shares
SHARE = "share of rows"
NATS = "nats per datum"


@dataclass(frozen=True)
class Curves:
    """A chart of numbers of rows of metrics."""

    name: str
    title: str
    names: Mapping[str, str]  # keys of a row, with their names in the legend
    y_label: str = ""
    is_log_y: bool = False
    y_range: tuple[float, float] | None = None


# Rank correlation and recall of a sentence model, and the nats per token that it generates.
RANKS = (
    Curves(
        "similarity",
        "Held-out texts: rank correlation and recall",
        {"spearman": "Spearman", "recall_at_1": "recall at 1", "recall_at_10": "recall at 10"},
    ),
    Curves(
        "generation",
        "Generation of the other text of a pair",
        {"generation_nats_per_token": "generation"},
        "nats per token",
    ),
)

# The distance of generated rows to real ones, and the shares that are like the others.
DISTANCES = (
    Curves("distance", "Fréchet distance", {"frechet_distance": ""}, is_log_y=True),
    Curves("kernel_distance", "Kernel distance", {"kernel_distance": ""}, is_log_y=True),
    Curves(
        "precision",
        "Precision and recall",
        {"precision": "precision", "recall": "recall"},
        SHARE,
        y_range=UNIT,
    ),
    Curves(
        "coverage",
        "Density and coverage",
        {"density": "density", "coverage": "coverage"},
    ),
)

# The two players of a GAN.
PLAYERS = (
    Curves("losses", "Losses", {"loss": "critic", "generator_loss": "generator"}),
    Curves(
        "scores",
        "Scores of the critic",
        {"real_score": "real rows", "fake_score": "generated rows"},
    ),
    Curves(
        "penalties",
        "Penalties of the critic",
        {"penalty": "penalty", "consistency": "consistency"},
    ),
    Curves(
        "norms",
        "Gradient of the critic by its input, before normalisation",
        {"norm_median": "median", "norm_max": "largest"},
        "Euclidean norm",
        is_log_y=True,
    ),
    Curves(
        "gradients",
        "Gradients by the weights",
        {"gradient_norm": "critic", "generator_gradient": "generator"},
        "Euclidean norm",
        is_log_y=True,
    ),
)


def column(rows: Rows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of the rows that hold a finite number under ``name``."""
    numbers = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    pairs = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs[:, 1])]
    return pairs[:, 0], pairs[:, 1]


def lines(rows: Rows, curves: Sequence[Curves]) -> list[Chart]:
    """Return a chart of each of ``curves`` that the rows have numbers for."""
    charts = []
    for each in curves:
        series = []
        for colour, (key, name) in enumerate(each.names.items()):
            steps, values = column(rows, key)
            if len(steps):
                series.append(Line(name, steps, values, colour))
        if series:
            options = {"is_log_y": each.is_log_y, "y_range": each.y_range}
            charts.append(Chart(each.name, each.title, series, y_label=each.y_label, **options))
    return charts


def training(rows: Rows) -> list[Chart]:
    """Return the training loss, row by row and as a running median, and the learning rate."""
    steps, loss = column(rows, "loss")
    if not len(steps):
        return []

    low, high = np.percentile(loss, RANGE_PERCENTILES).tolist()
    room = high - low
    series = [
        Line("every row of the log", steps, loss, is_faint=True),
        Line("running median", steps, _running_median(loss), label="loss"),
    ]
    y_range = (low - 0.05 * room, high + 0.1 * room) if room > 0 else None
    charts = [Chart("train_loss", "Training loss", series, y_range=y_range)]
    steps, rates = column(rows, "lr")
    if len(steps):
        charts.append(Chart("learning_rate", "Learning rate", [Line("", steps, rates, colour=7)]))
    return charts


def validation(rows: Rows) -> list[Chart]:
    """Return the negative log-likelihood with its standard error, and its upper bound."""
    steps, nll = column(rows, "nll_nats")
    if not len(steps):
        return []

    errors = []
    for row in rows:
        if len(column([row], "nll_nats")[0]):
            errors.append(float(row.get("nll_standard_error") or 0.0))
    series = [Line("NLL ± standard error", steps, nll, errors=errors, label="NLL")]
    bound_steps, elbo = column(rows, "elbo_nats")
    if len(bound_steps):
        series.append(Line("−ELBO, an upper bound", bound_steps, -elbo, 1, label="−ELBO"))
    title = "Negative log-likelihood of held-out data"
    return [Chart("validation", title, series, y_label=NATS)]


def kl_layers(rows: Rows) -> list[Chart]:
    """Return the KL of every latent layer, stacked; of a single validation, as bars."""
    complete = [row for row in rows if row.get("kl_nats") and None not in row["kl_nats"]]
    if not complete:
        return []

    steps = np.array([row["step"] for row in complete], dtype=np.float64)
    layers = np.array([row["kl_nats"] for row in complete], dtype=np.float64).T
    names = [f"layer {i}" for i in range(len(layers))]
    title = "KL of every latent layer"
    if len(complete) == 1:  # an area needs two steps
        bars = Bars("", range(len(layers) + 1), layers[:, 0], labels=names)
        return [Chart("kl_layers", title, [bars], x_label="", y_label=NATS, x_names=names)]

    tops = layers.cumsum(axis=0)
    bottoms = tops - layers
    areas = []
    for i, name in enumerate(names):
        areas.append(Area(name, steps, bottoms[i], tops[i], i))
    return [Chart("kl_layers", f"{title}, stacked", areas, y_label=NATS)]


def latent_use(rows: Rows) -> list[Chart]:
    """Return the mutual information of datum and latent with its ceiling, and active units.

    The ceiling is the largest value of the estimator of the mutual information.
    """
    series = []
    information = {
        "mutual_information_nats": "mutual information",
        "shuffled_gap_nats": "loss with shuffled latents",
    }
    for colour, (key, name) in enumerate(information.items()):
        steps, values = column(rows, key)
        if len(steps):
            series.append(Line(name, steps, values, colour))
    ceiling = column(rows, "mutual_information_ceiling_nats")
    if series and len(ceiling[0]):
        series.append(Line("ceiling of the estimate", *ceiling, colour=7, is_dashed=True))
    charts = [Chart("use", "Use of the latents", series, y_label=NATS)] if series else []

    steps, units = column(rows, "active_units")
    if len(steps):
        top = max(float(units.max()) * 1.05, 1.0)
        line = Line("", steps, units, colour=2)
        charts.append(Chart("active_units", "Active latent units", [line], y_range=(0.0, top)))
    return charts


def overlay(runs_of: Mapping[str, Sequence[Rows]], metric: Curves) -> list[Chart]:
    """Return a metric of validations by step: one colour a group of runs, one line a run."""
    ((key, _),) = metric.names.items()
    series = []
    for colour, (group, runs) in enumerate(runs_of.items()):
        for rows in runs:
            steps, values = column(rows, key)
            if len(steps):
                series.append(Line(group, steps, values, colour))
    if not series:
        return []
    alt = f"{metric.title} by step, one colour a group, one line a run"
    return [
        Chart(
            metric.name,
            metric.title,
            series,
            y_label=metric.y_label,
            is_log_y=metric.is_log_y,
            y_range=metric.y_range,
            alt=alt,
        )
    ]


# Curves of a comparison: those of validations that runs of a kind have in common.
COMPARED: Sequence[Curves] = (
    Curves("validation", "Held-out negative log-likelihood", {"nll_nats": ""}, NATS),
    Curves("mutual_information", "Mutual information", {"mutual_information_nats": ""}, NATS),
    Curves("spearman", "Spearman's rank correlation", {"spearman": ""}),
    Curves("recall_at_1", "Recall at 1", {"recall_at_1": ""}, y_range=UNIT),
    Curves("distance", "Fréchet distance", {"frechet_distance": ""}, is_log_y=True),
    Curves("precision", "Precision", {"precision": ""}, SHARE, y_range=UNIT),
    Curves("recall", "Recall", {"recall": ""}, SHARE, y_range=UNIT),
)


def _running_median(values: np.ndarray) -> np.ndarray:
    half = max(len(values) // WINDOWS, 1)
    medians = []
    for i in range(len(values)):
        medians.append(np.median(values[max(i - half, 0) : i + half + 1]))
    return np.array(medians)
