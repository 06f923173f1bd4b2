"""The table of the study of GAN images: means over seeds, the winner, the targets for MNIST."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.gans.evaluation import METRICS
from experiments.studies.harness import Results, finished, spread
from univae.checkpoint import JsonObject

__all__ = ["MNIST_BARS", "Bar", "markdown", "mnist_bars", "ranking", "table", "verdict"]


AVERAGE = "average"  # the kind of weights by which methods are ranked


@dataclass(frozen=True)
class Bar:
    """A target for MNIST at 20 minutes, for the winner or for ``method``."""

    metric: str
    value: float
    method: str | None = None
    is_upper: bool = False  # the metric must be at most the value; otherwise at least

    def result(self, row: JsonObject) -> JsonObject:
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


def table(arguments: argparse.Namespace, trained: Results, scored: Results) -> list[JsonObject]:
    """Return a row per method and kind of weights: mean and spread of each metric over seeds."""
    measured = finished(scored)
    rows: list[JsonObject] = []
    for method in arguments.methods:
        names = [f"{method}-seed{seed}" for seed in range(arguments.seeds)]
        done = [name for name in names if name in measured]
        row: JsonObject = {"method": method, "failed": len(names) - len(done)}
        if not done:
            rows.append(row)
            continue
        row["steps"] = spread(trained[name]["steps"] for name in done)
        row["processor_minutes"] = spread(trained[name]["seconds"] / 60 for name in done)
        averages = [measured[name] for name in done]
        raw_weights = [measured[name]["raw"] for name in done]
        rows.append({**row, "weights": AVERAGE, **_spreads(averages)})
        rows.append({**row, "weights": "raw", **_spreads(raw_weights)})
    return rows


def _spreads(results: Sequence[JsonObject]) -> JsonObject:
    present = [metric for metric in METRICS if metric in results[0]]
    return {metric: spread(result[metric] for result in results) for metric in present}


def ranking(rows: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the rows of moving averages, the smallest mean Fréchet distance first."""
    averages = [row for row in rows if row.get("weights") == AVERAGE]
    return sorted(averages, key=lambda row: row["frechet_distance"]["mean"])


def verdict(rows: Sequence[JsonObject], floor: float) -> str:
    """Return the winner, its lead, and whether the lead exceeds the differences between seeds."""
    ranked = ranking(rows)
    if not ranked:
        return "All runs failed."
    best, *others = ranked
    sentence = (
        f"{best['method']} has the smallest Fréchet distance, {_distance_text(best)} "
        f"(floor {floor:.3g})"
    )
    if not others:
        return f"{sentence}; all runs of the other methods failed."

    distances = [f"{row['method']} {_distance_text(row)}" for row in others]
    sentence += f", before {', '.join(distances)}. "
    second = others[0]
    lead = second["frechet_distance"]["mean"] - best["frechet_distance"]["mean"]
    deviations = [row["frechet_distance"]["sd"] for row in (best, second)]
    if None in deviations:
        return sentence + "With one seed, the order may be due to chance."
    larger = max(deviations)
    comparison = "more" if lead > 2 * larger else "not more"
    return (
        f"{sentence}The lead of {lead:.2g} over {second['method']} is {comparison} than twice the "
        f"larger deviation over seeds ({larger:.2g})."
    )


def _distance_text(row: JsonObject) -> str:
    distance = row["frechet_distance"]
    text = f"{distance['mean']:.3g}"
    return text if distance["sd"] is None else f"{text} ± {distance['sd']:.2g}"


def markdown(results: JsonObject) -> str:
    """Return a table of the moving averages, the smallest distance first, and the verdict."""
    lines = [
        "| critic | Fréchet distance | precision / recall | density / coverage | copies | steps |",
        "|---|---|---|---|---|---|",
    ]
    for row in ranking(results["table"]):
        mean = {name: value["mean"] for name, value in row.items() if isinstance(value, dict)}
        cells = [
            f"`{row['method']}`",
            _distance_text(row),
            f"{mean['precision']:.2f} / {mean['recall']:.3f}",
            f"{mean['density']:.2f} / {mean['coverage']:.3f}",
            f"{mean['copies']:.1%}",
            f"{mean['steps']:,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| real images | {results['floor_frechet']['mean']:.3g} | | | | |")
    return "\n".join([*lines, "", results["verdict"]])


def mnist_bars(rows: Sequence[JsonObject]) -> JsonObject:
    """Return each target for MNIST, the measured value, and whether the target is met."""
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
