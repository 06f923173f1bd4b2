"""The table of the study of images: means over seeds, the winner, and the targets for MNIST."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.gans.evaluation import METRICS
from experiments.studies.harness import spread

__all__ = ["MNIST_BARS", "Bar", "mnist_bars", "ranking", "table", "verdict"]


@dataclass(frozen=True)
class Bar:
    """A target for MNIST at 20 minutes: of the winner, or of ``method``."""

    metric: str
    value: float
    method: str | None = None
    is_upper: bool = False  # the metric must not exceed the value; otherwise it must reach it

    def result(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the target, the mean over the seeds, and whether the target is met."""
        mean = row[self.metric]["mean"]
        met = mean <= self.value if self.is_upper else mean >= self.value
        return {"bar": self.value, "value": mean, "met": met}


MNIST_BARS = {
    "best_frechet": Bar("frechet_distance", 1.0, is_upper=True),
    "gn_frechet": Bar("frechet_distance", 1.5, method="gn", is_upper=True),
    "classes": Bar("classes_found", 10),
    "recall": Bar("recall", 0.9),
    "coverage": Bar("coverage", 0.7),
}


def table(
    arguments: argparse.Namespace, trained: Mapping[str, Any], scored: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return a row per method and kind of weights: each metric's mean and spread over the seeds."""
    rows: list[dict[str, Any]] = []
    for method in arguments.methods:
        names = [f"{method}-seed{seed}" for seed in range(arguments.seeds)]
        ended = [name for name in names if name in scored and "failed" not in scored[name]]
        row: dict[str, Any] = {"method": method, "failed": len(names) - len(ended)}
        if not ended:
            rows.append(row)
            continue
        row["steps"] = spread(trained[name]["steps"] for name in ended)
        row["processor_minutes"] = spread(trained[name]["seconds"] / 60 for name in ended)
        averages = [scored[name] for name in ended]
        raw_weights = [scored[name]["raw"] for name in ended]
        rows.append({**row, "weights": "average", **_spreads(averages)})
        rows.append({**row, "weights": "raw", **_spreads(raw_weights)})
    return rows


def _spreads(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    present = [metric for metric in METRICS if metric in results[0]]
    return {metric: spread(result[metric] for result in results) for metric in present}


def ranking(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of moving averages, the smallest mean Fréchet distance first."""
    averages = [row for row in rows if row.get("weights") == "average"]
    return sorted(averages, key=lambda row: row["frechet_distance"]["mean"])


def verdict(rows: Sequence[Mapping[str, Any]], floor: float) -> str:
    """Return the winner, its lead, and whether the lead exceeds the differences between seeds."""
    ranked = ranking(rows)
    if not ranked:
        return "No run ended."
    best, *rivals = ranked
    sentence = (
        f"{best['method']} has the smallest Fréchet distance, {_distance_text(best)} "
        f"(floor {floor:.3g})"
    )
    if not rivals:
        return f"{sentence}; it is the only method that ended."

    distances = [f"{row['method']} {_distance_text(row)}" for row in rivals]
    sentence += f", before {', '.join(distances)}. "
    second = rivals[0]
    lead = second["frechet_distance"]["mean"] - best["frechet_distance"]["mean"]
    deviations = [row["frechet_distance"]["sd"] for row in (best, second)]
    if None in deviations:
        return sentence + "With one seed, the order may be the seed's."
    larger = max(deviations)
    comparison = "more" if lead > 2 * larger else "not more"
    return (
        f"{sentence}The lead of {lead:.2g} over {second['method']} is {comparison} than twice the "
        f"larger deviation over seeds ({larger:.2g})."
    )


def _distance_text(row: Mapping[str, Any]) -> str:
    distance = row["frechet_distance"]
    text = f"{distance['mean']:.3g}"
    return text if distance["sd"] is None else f"{text} ± {distance['sd']:.2g}"


def mnist_bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each target for MNIST, the value reached, and whether it is met."""
    ranked = {row["method"]: row for row in ranking(rows)}
    if not ranked:
        return {}
    winner = next(iter(ranked))
    results = {}
    for name, bar in MNIST_BARS.items():
        row = ranked.get(bar.method or winner)
        if row is not None and bar.metric in row:
            results[name] = bar.result(row)
    return results
