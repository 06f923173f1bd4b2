"""Metrics by step as charts: tables of which numbers share a chart, and the lines they become."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from experiments.reports.charts import Chart, Series
from experiments.reports.series import Line
from univae.checkpoint import JsonObject

__all__ = [
    "COMPARED",
    "DISTANCES",
    "NATS",
    "PLAYERS",
    "RANKS",
    "Curves",
    "Rows",
    "column",
    "lines",
    "overlay",
]

Rows: TypeAlias = Sequence[JsonObject]

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

    def chart(self, series: Sequence[Series], alt: str = "") -> Chart:
        """Return the chart of these series."""
        return Chart(
            self.name,
            self.title,
            series,
            y_label=self.y_label,
            is_log_y=self.is_log_y,
            y_range=self.y_range,
            alt=alt,
        )


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
            charts.append(each.chart(series))
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
    alt = f"{metric.title} by step, one colour a group, one line a run"
    return [metric.chart(series, alt)] if series else []
