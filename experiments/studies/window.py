"""The cost of gradient accumulation hidden in the momentum, and fewer updates with small batches.

A UniVAE on ``python-docs``, equal tokens, several seeds. Two tables of held-out nats per text:

``accumulation``  the same micro-batches, k to an update: AdamW on their summed gradient
                  (``buffered``), and folded into the moments with the second moment ``plain``
                  (published) or ``corrected``; gaps are paired by seed.
``small_batch``   micro-batches of a few texts: an update for each (``every``), an update for each
                  with both decays slowed to 1 - (1 - beta) / k (``slower``), or an update for k of
                  them (``window``); by learning rate.

``python -m experiments.studies.window --out runs/window --results experiments/results/window.json``
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import train_text
from experiments.benchmarks.harness import report
from experiments.data.texts import BUILT_IN
from experiments.studies.harness import Job, Results, finished, run_all, spread
from experiments.text.presets import PRESETS
from univae.checkpoint import JsonObject

NOT_SHAPE = ("batch_tokens", "lr")  # options of the preset that the study sets itself
SHAPE = {name: value for name, value in PRESETS["tiny"].items() if name not in NOT_SHAPE}
# without batch normalisation of the means: its statistics would be those of a micro-batch, of one
# text at times
SHAPE["bn_gamma"] = 0
BATCH = 2048  # padded tokens in an update of the first table
# padded tokens in a micro-batch of the second table: one text of the longest, four of the usual
MICRO_BATCH = 64
WINDOW = 16  # of the second table
BETAS = {"beta1": 0.9, "beta2": 0.98}

Setting: TypeAlias = tuple[int, float]  # window and learning rate
SETTINGS: list[Setting] = [(4, 1e-3), (4, 3e-3), (16, 1e-3), (16, 3e-3)]


@dataclass(frozen=True)
class Measure:
    """A number of a result, and how the first table names it; less is better."""

    name: str
    label: str
    sign: int


MEASURES = (
    Measure("nll_nats", "nll_nats", 1),
    Measure("elbo_nats", "minus_elbo_nats", -1),
)
REFERENCE = "buffered"  # the arm from which gaps are measured
SMALL_ARMS = ("every", "slower", "window")


def accumulation_arms(window: int) -> Mapping[str, JsonObject]:
    """Return the options of every arm of the first table."""
    return {
        REFERENCE: {"accumulate": window},
        "plain": {"window": window, "second_moment": "plain"},
        "corrected": {"window": window, "second_moment": "corrected"},
    }


def setting(text: str) -> Setting:
    """Return the window and learning rate of ``k:lr``."""
    window, lr = text.split(":")
    return int(window), float(lr)


def job(out: Path, name: str, seed: int, **options: object) -> Job:
    """Return a run of one thread that validates once, on 512 texts.

    Without clipping, which would differ between the arms.
    """
    settings: JsonObject = {
        "clip": 0.0,
        "threads": 1,
        "validate_every": 0,
        "checkpoint_every": 0,
        "validation_texts": 512,
        "validation_samples": 16,
        "lr": 3e-3,
        **SHAPE,
        **options,
    }
    config = train_text.Config.of(
        text=BUILT_IN, out=out / f"{name}-seed{seed}", seed=seed, **settings
    )
    return Job(config.out.name, train_text.train, config)


def accumulation(
    out: Path, tokens: int, seeds: Sequence[int], settings: Sequence[Setting]
) -> list[Job]:
    """Return the runs of the first table: every setting, arm and seed."""
    jobs = []
    for window, lr in settings:
        common = {"batch_tokens": BATCH // window, "steps": tokens // BATCH, "lr": lr}
        for arm, options in accumulation_arms(window).items():
            for seed in seeds:
                jobs.append(job(out, f"{arm}-k{window}-lr{lr:g}", seed, **common, **options))
    return jobs


def small_batch(
    out: Path, tokens: int, seeds: Sequence[int], rates: Sequence[float], window: int
) -> list[Job]:
    """Return the runs of the second table: every learning rate, arm and seed."""
    micro_steps = tokens // MICRO_BATCH
    slower_betas = {name: 1 - (1 - beta) / window for name, beta in BETAS.items()}
    every: JsonObject = {"steps": micro_steps}
    slower: JsonObject = {"steps": micro_steps, **slower_betas}
    windowed: JsonObject = {"steps": micro_steps // window, "window": window}

    jobs = []
    for lr in rates:
        for arm, options in zip(SMALL_ARMS, (every, slower, windowed), strict=True):
            for seed in seeds:
                name = f"small-{arm}-lr{lr:g}"
                jobs.append(job(out, name, seed, batch_tokens=MICRO_BATCH, lr=lr, **options))
    return jobs


def gaps(results: Results, settings: Sequence[Setting], seeds: Sequence[int]) -> list[JsonObject]:
    """Return the rows of the first table.

    A gap is a folded arm's number minus the buffered one of the same seed.
    """
    rows = []
    for window, lr in settings:
        for arm in accumulation_arms(window):
            row: JsonObject = {"window": window, "lr": lr, "second_moment": arm}
            for measure in MEASURES:
                values = []
                differences = []
                for seed in seeds:
                    suffix = f"k{window}-lr{lr:g}-seed{seed}"
                    value = measure.sign * results[f"{arm}-{suffix}"][measure.name]
                    reference = measure.sign * results[f"{REFERENCE}-{suffix}"][measure.name]
                    values.append(value)
                    differences.append(value - reference)
                row[measure.label] = spread(values)
                row[f"{measure.label}_gap"] = spread(differences)
            rows.append(row)
    return rows


def means(results: Results, rates: Sequence[float], seeds: Sequence[int]) -> list[JsonObject]:
    """Return the rows of the second table."""
    rows = []
    for lr in rates:
        for arm in SMALL_ARMS:
            runs = {}
            for seed in seeds:
                name = f"small-{arm}-lr{lr:g}-seed{seed}"
                runs[name] = results[name]
            done = finished(runs)
            row: JsonObject = {"updates": arm, "lr": lr, "failed": len(runs) - len(done)}
            if len(done) == len(runs):
                row["nll_nats"] = spread(result["nll_nats"] for result in done.values())
            rows.append(row)
    return rows


def draw(tables: JsonObject, path: Path) -> None:
    """Plot paired gaps by window and rule, a dot a seed, and small batches by learning rate."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_gaps(left, [row for row in tables["accumulation"] if row["second_moment"] != REFERENCE])
    for arm in SMALL_ARMS:
        rows = [row for row in tables["small_batch"] if row["updates"] == arm and not row["failed"]]
        means_ = [row["nll_nats"]["mean"] for row in rows]
        deviations = [row["nll_nats"]["sd"] or 0.0 for row in rows]
        rates = [row["lr"] for row in rows]
        right.errorbar(rates, means_, yerr=deviations, marker="o", capsize=3, label=arm)
    right.set_xscale("log")
    right.set_xlabel("learning rate")
    right.set_ylabel("NLL, nats per text")
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def _draw_gaps(axes: Axes, rows: Sequence[JsonObject]) -> None:
    labels = []
    for position, row in enumerate(rows):
        differences = row["nll_nats_gap"]["each"]
        axes.plot([position] * len(differences), differences, "o")
        labels.append(f"{row['second_moment']}\nk={row['window']}\n{row['lr']:g}")
    axes.set_xticks(range(len(rows)), labels)
    axes.axhline(0, color="grey")
    axes.set_ylabel("NLL minus buffered AdamW's, nats per text")


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; those that are done stay"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the tables")
    parser.add_argument(
        "--tokens", type=int, default=400_000, help="padded tokens a run sees, first table"
    )
    parser.add_argument("--small-tokens", type=int, default=200_000, help="the same, second table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--settings",
        type=setting,
        nargs="+",
        default=SETTINGS,
        help="window:learning rate, first table; 4:1e-3 say",
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[1e-3, 3e-3], help="learning rates, second table"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    return parser.parse_args()


def main() -> None:
    """Run the study with the options of the command line."""
    options = parse()
    seeds = range(options.seeds)
    jobs = accumulation(options.out, options.tokens, seeds, options.settings)
    jobs += small_batch(options.out, options.small_tokens, seeds, options.rates, WINDOW)
    results = run_all(jobs, options.jobs)
    tables = {
        "tokens": {"accumulation": options.tokens, "small_batch": options.small_tokens},
        "accumulation": gaps(results, options.settings, seeds),
        "small_batch": means(results, options.rates, seeds),
    }
    draw(tables, options.out / "window.png")
    report("window", tables, options.results, kind="study")


if __name__ == "__main__":
    main()
