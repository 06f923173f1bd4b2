"""How often two standard errors cover a known log-likelihood, by the k-hat of the weights.

The model is z ~ N(0, I), x | z ~ N(z, I), in several dimensions; the proposal is its posterior with
the variance multiplied by a ratio, from too narrow to too wide. Every run scores a datum of its own
with K samples. ``bins`` has the coverage of all dimensions and ratios by K and estimated k-hat,
``verdicts`` by K and whether k-hat is reliable for K samples.

``python -m experiments.studies.khat_coverage --results experiments/results/khat_coverage.json
--figure docs/figures/khat_coverage.png``
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

import density
from density.estimation.diagnostics import khat_threshold, unreliable
from experiments.benchmarks.harness import report
from experiments.training.task import reseed
from univae.checkpoint import JsonObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIMENSIONS = (1, 4, 16)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.3, 1.6, 2.0, 3.0)
SIZES = (64, 256, 1024)
EDGES = (-math.inf, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, math.inf)
FEWEST_RUNS = 100  # of a bin that is drawn
NOMINAL = 0.954  # of two standard deviations of a normal


@dataclass(frozen=True)
class Gaussians:
    """z ~ N(0, I), x | z ~ N(z, I); the proposal has ``ratio`` times the posterior's variance."""

    dimension: int
    ratio: float

    def prior(self) -> Distribution:
        """Return p(z)."""
        return Independent(Normal(torch.zeros(self.dimension), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        """Return the proposal; the posterior is N(x / 2, I / 2)."""
        return Independent(Normal(x / 2, math.sqrt(self.ratio / 2)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        """Return p(x | z)."""
        return Independent(Normal(z, 1.0), 1)

    def evidence(self, x: Tensor) -> Tensor:
        """Return log p(x), (B,), in nats."""
        zeros = torch.zeros(self.dimension)
        return Independent(Normal(zeros, math.sqrt(2)), 1).log_prob(x)


@dataclass(frozen=True)
class Runs:
    """Independent estimates with K samples: k-hat, error in nats and standard error, (N,) each."""

    samples: int
    khat: Tensor
    error: Tensor
    standard_error: Tensor


def measure(samples: int, runs: int, dimensions: Sequence[int], ratios: Sequence[float]) -> Runs:
    """Return ``runs`` estimates for every dimension and ratio."""
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for dimension in dimensions:
        for ratio in ratios:
            model = Gaussians(dimension, ratio)
            x = math.sqrt(2) * torch.randn(runs, dimension)
            estimate = density.estimate(model, x, samples)
            error = estimate.log_likelihood - model.evidence(x)
            columns.append((estimate.khat, error, estimate.standard_error))
    khat, error, standard_error = (torch.cat(column) for column in zip(*columns, strict=True))
    return Runs(samples, khat, error, standard_error)


def bins(runs: Runs) -> list[JsonObject]:
    """Return a row for each interval of k-hat that holds runs."""
    rows = []
    for low, high in pairwise(EDGES):
        is_inside = (runs.khat > low) & (runs.khat <= high)
        if is_inside.any():
            rows.append(
                {"samples": runs.samples, "above": low, "to": high, **_row(runs, is_inside)}
            )
    return rows


def verdicts(runs: Runs) -> list[JsonObject]:
    """Return a row for the runs whose k-hat is reliable for their samples, and one for others."""
    is_unreliable = unreliable(runs.khat, runs.samples)
    rows = []
    for name, selected in (("reliable", ~is_unreliable), ("unreliable", is_unreliable)):
        if selected.any():
            rows.append({"samples": runs.samples, "khat": name, **_row(runs, selected)})
    return rows


def _row(runs: Runs, selected: Tensor) -> JsonObject:
    """Return coverage and errors of the selected runs."""
    error = runs.error[selected]
    standard_error = runs.standard_error[selected]
    covered = (error.abs() <= 2 * standard_error).double().mean().item()
    count = len(error)
    return {
        "runs": count,
        "coverage": covered,
        "coverage_standard_error": math.sqrt(covered * (1 - covered) / count),
        "mean_error_nats": error.mean().item(),
        "rms_error_nats": error.square().mean().sqrt().item(),
        "rms_standard_error_nats": standard_error.square().mean().sqrt().item(),
    }


def draw(rows: Sequence[JsonObject], path: Path) -> None:
    """Plot the coverage of two standard errors, and the mean error, by k-hat and K."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.axhline(NOMINAL, color="grey", linestyle=":")
    right.axhline(0, color="grey", linestyle=":")
    for samples in sorted({row["samples"] for row in rows}):
        shown = [row for row in rows if row["samples"] == samples and row["runs"] >= FEWEST_RUNS]
        centres = [_centre(row) for row in shown]
        _draw_line(left, samples, centres, [row["coverage"] for row in shown])
        _draw_line(right, samples, centres, [row["mean_error_nats"] for row in shown])
    left.set(xlabel="k-hat", ylabel="coverage of two standard errors", ylim=(0, 1))
    right.set(xlabel="k-hat", ylabel="mean error, nats")
    left.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_line(
    axes: "Axes", samples: int, centres: Sequence[float], values: Sequence[float]
) -> None:
    """Draw a line for K samples, and the threshold of its k-hat in the same colour."""
    (line,) = axes.plot(centres, values, marker="o", label=f"K = {samples}")
    axes.axvline(khat_threshold(samples), color=line.get_color(), linestyle="--", linewidth=1)


def _centre(row: JsonObject) -> float:
    """Return the centre of an interval; one that has no end is drawn as wide as the others."""
    low = max(row["above"], EDGES[1] - 0.1)
    high = min(row["to"], EDGES[-2] + 0.1)
    return (low + high) / 2


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the tables")
    parser.add_argument("--figure", type=Path, help="a picture of the coverage")
    parser.add_argument(
        "--runs", type=int, default=2000, help="runs of each dimension, ratio and K"
    )
    parser.add_argument("--dimensions", type=int, nargs="+", default=DIMENSIONS)
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="importance samples")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Run the study with the options of the command line."""
    options = parse()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    reseed(options.seed, "khat_coverage")
    tables: JsonObject = {"bins": [], "verdicts": []}
    for samples in options.sizes:
        runs = measure(samples, options.runs, options.dimensions, options.ratios)
        tables["bins"] += bins(runs)
        tables["verdicts"] += verdicts(runs)
    if options.figure is not None:
        draw(tables["bins"], options.figure)
    tables |= {"dimensions": options.dimensions, "ratios": options.ratios, "runs": options.runs}
    report("khat_coverage", tables, options.results, kind="study")


if __name__ == "__main__":
    main()
