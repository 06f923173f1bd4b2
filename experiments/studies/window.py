"""What hiding gradient accumulation in the momentum costs, and whether fewer updates help small batches.

A UniVAE on ``python-docs``, equal tokens, several seeds. Two questions, as tables of held-out nats
per text:

``accumulation``  the same micro-batches, k to an update: AdamW on their summed gradient (``buffered``), and folded into
                  the moments with the second moment ``plain`` (published) or ``corrected``; gaps
                  are paired by seed.
``small_batch``   micro-batches of a few texts: an update for each (``every``), an update for each with both decays
                  slowed to 1 - (1 - beta) / k (``slower``), or an update for k of them
                  (``window``); by learning rate.

``python -m experiments.studies.window --out runs/window --results experiments/results/window.json``
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from experiments import train_text
from experiments.benchmarks.harness import report
from experiments.data.texts import BUILT_IN
from experiments.studies.harness import Job, run_all, spread
from experiments.text.presets import PRESETS

# No batch normalisation of the means: its statistics would be those of a micro-batch, of one text
# at times.
SHAPE = {
    name: value for name, value in PRESETS["tiny"].items() if name not in ("batch_tokens", "lr")
} | {"bn_gamma": 0}
MEASURED = ("nll_nats", "elbo_nats")
BATCH = 2048  # padded tokens in an update of the first table
# padded tokens in a micro-batch of the second: one text of the longest, four of the usual
MICRO = 64
WINDOW = 16  # of the second
BETAS = {"beta1": 0.9, "beta2": 0.98}

Setting: TypeAlias = tuple[int, float]
SETTINGS: list[Setting] = [(4, 1e-3), (4, 3e-3), (16, 1e-3), (16, 3e-3)]


def setting(text: str) -> Setting:
    """A window and a learning rate from ``k:lr``."""
    k, lr = text.split(":")
    return int(k), float(lr)


def job(out: Path, name: str, seed: int, **options: Any) -> Job:
    """A run of one thread that validates once, on 512 texts.

    No clipping, for it would differ between the arms.
    """
    settings: dict[str, Any] = {
        "clip": 0.0,
        "threads": 1,
        "validate_every": 0,
        "checkpoint_every": 0,
    }
    settings |= {"validation_texts": 512, "validation_samples": 16, "lr": 3e-3, **SHAPE, **options}
    config = train_text.Config.of(
        text=BUILT_IN, out=out / f"{name}-seed{seed}", seed=seed, **settings
    )
    return Job(config.out.name, train_text.train, config)


def accumulation(
    out: Path, tokens: int, seeds: Sequence[int], settings: Sequence[Setting]
) -> list[Job]:
    """Buffered, plain and corrected for every window and learning rate, and every seed."""
    jobs = []
    for k, lr in settings:
        arms: dict[str, dict[str, Any]] = {
            "buffered": {"accumulate": k},
            "plain": {"window": k, "second_moment": "plain"},
            "corrected": {"window": k, "second_moment": "corrected"},
        }
        common = {"batch_tokens": BATCH // k, "steps": tokens // BATCH, "lr": lr}
        jobs += [
            job(out, f"{arm}-k{k}-lr{lr:g}", seed, **common, **o)
            for arm, o in arms.items()
            for seed in seeds
        ]
    return jobs


def small_batch(
    out: Path, tokens: int, seeds: Sequence[int], rates: Sequence[float], k: int
) -> list[Job]:
    """An update for every micro-batch, with slower decays, or for k of them."""
    micro_steps = tokens // MICRO
    slower = {name: 1 - (1 - beta) / k for name, beta in BETAS.items()}
    arms: dict[str, dict[str, Any]] = {
        "every": {"steps": micro_steps},
        "slower": {"steps": micro_steps, **slower},
        "window": {"steps": micro_steps // k, "window": k},
    }
    return [
        job(out, f"small-{arm}-lr{lr:g}", seed, batch_tokens=MICRO, lr=lr, **o)
        for lr in rates
        for arm, o in arms.items()
        for seed in seeds
    ]


def gaps(
    found: Mapping[str, Mapping[str, Any]], settings: Sequence[Setting], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of the first table.

    A gap is a folded arm's figure minus the buffered one of the same seed.
    """
    rows = []
    for k, lr in settings:
        for arm in ("buffered", "plain", "corrected"):
            row: dict[str, Any] = {"window": k, "lr": lr, "second_moment": arm}
            for name in MEASURED:
                sign = -1 if name == "elbo_nats" else 1
                own = [sign * found[f"{arm}-k{k}-lr{lr:g}-seed{s}"][name] for s in seeds]
                reference = [sign * found[f"buffered-k{k}-lr{lr:g}-seed{s}"][name] for s in seeds]
                label = "minus_elbo_nats" if sign < 0 else name
                row[label] = spread(own)
                row[f"{label}_gap"] = spread(a - b for a, b in zip(own, reference, strict=True))
            rows.append(row)
    return rows


def means(
    found: Mapping[str, Mapping[str, Any]], rates: Sequence[float], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of the second table."""
    rows: list[dict[str, Any]] = []
    for lr in rates:
        for arm in ("every", "slower", "window"):
            results = [found[f"small-{arm}-lr{lr:g}-seed{seed}"] for seed in seeds]
            failed = sum("failed" in result for result in results)
            scores = (
                {} if failed else {"nll_nats": spread(result["nll_nats"] for result in results)}
            )
            rows.append({"updates": arm, "lr": lr, "failed": failed, **scores})
    return rows


def draw(tables: Mapping[str, Any], path: Path) -> None:
    """Paired gaps by window and rule, a dot a seed; and the small batches by learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = [row for row in tables["accumulation"] if row["second_moment"] != "buffered"]
    for place, row in enumerate(rows):
        each = row["nll_nats_gap"]["each"]
        left.plot([place] * len(each), each, "o")
    left.set_xticks(
        range(len(rows)),
        [f"{row['second_moment']}\nk={row['window']}\n{row['lr']:g}" for row in rows],
    )
    left.axhline(0, color="grey")
    left.set_ylabel("NLL minus buffered AdamW's, nats per text")
    for arm in ("every", "slower", "window"):
        own = [row for row in tables["small_batch"] if row["updates"] == arm and "nll_nats" in row]
        y = [row["nll_nats"]["mean"] for row in own]
        bars = [row["nll_nats"]["sd"] or 0.0 for row in own]
        right.errorbar([row["lr"] for row in own], y, yerr=bars, marker="o", capsize=3, label=arm)
    right.set_xscale("log")
    right.set_xlabel("learning rate")
    right.set_ylabel("NLL, nats per text")
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
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
    given = parser.parse_args()
    seeds = range(given.seeds)
    jobs = accumulation(given.out, given.tokens, seeds, given.settings)
    jobs += small_batch(given.out, given.small_tokens, seeds, given.rates, WINDOW)
    found = run_all(jobs, given.jobs)
    tables = {
        "tokens": {"accumulation": given.tokens, "small_batch": given.small_tokens},
        "accumulation": gaps(found, given.settings, seeds),
        "small_batch": means(found, given.rates, seeds),
    }
    draw(tables, given.out / "window.png")
    report("window", tables, given.results, kind="study")


if __name__ == "__main__":
    main()
