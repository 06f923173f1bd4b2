"""Sensitivity of adapted step sizes to the learning rate, and their response to a data shift.

Two tasks (:mod:`experiments.studies.step_size_tasks`): a UniVAE on ``python-docs`` and a VAE on
``digits``. Every arm runs at five learning rates from 1e-4 to 1; reported are the best held-out
NLL, the rates whose NLL is within 5% of the best of all arms, and failures. Then digits are rotated
by 90 degrees in mid-training, every arm at its best rate; reported are the steps until the held-out
bound is within 5% of its value before the rotation.

Prodigy is a dependency of this study alone: ``pip install prodigyopt``.

``python -m experiments.studies.step_size --out runs/step_size --results
experiments/results/step_size.json``
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.benchmarks.harness import report
from experiments.studies.harness import Job, Results, run_all, spread
from experiments.studies.step_size_tasks import TASKS, Config, TaskName, prepare_corpus, train
from experiments.training.run_folder import Run
from univae.checkpoint import JsonObject

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEAR = 1.05  # times the best NLL or bound
GRID_TASKS = ("text", "digits")
SHIFT_TASK = "shift"

CONSTANT: JsonObject = {"warmup": 0.0, "lr_floor": 1.0}
# Higher rates of adaptation: the default ones have an effect after thousands of steps only.
FAST: JsonObject = {"scale_lr": 0.02, "gain_lr": 0.02}
HALVES: JsonObject = {"adapt_step_size": "scale", "adapt_halves": True, "accumulate": 2}
ARMS: Mapping[str, JsonObject] = {
    "sgd, constant": {"optimizer": "sgd", **CONSTANT},
    "sgd, cosine": {"optimizer": "sgd"},
    "egdd": {"optimizer": "egdd", **CONSTANT},
    "egdd, fast": {"optimizer": "egdd", **CONSTANT, **FAST},
    "adamw, constant": CONSTANT,
    "adamw, cosine": {},
    "adamw, scales": {"adapt_step_size": "scale", **CONSTANT, **FAST},
    "adamw, scales by halves": {**HALVES, **CONSTANT, **FAST},
    "prodigy": {"prodigy": True, **CONSTANT},
}


def jobs(
    options: argparse.Namespace,
    task: TaskName,
    rates: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
) -> list[Job]:
    """Return a job for every arm, learning rate and seed."""
    study_task = TASKS[task]
    all_jobs = []
    for arm, arm_options in ARMS.items():
        folder = arm.replace(", ", "-").replace(" ", "-")
        for lr in rates[arm]:
            for seed in seeds:
                config = Config(
                    out=options.out / f"{task}-{folder}-lr{lr:g}-seed{seed}",
                    shared=options.out / "corpus",
                    task=task,
                    lr=lr,
                    seed=seed,
                    threads=1,
                    checkpoint_every=0,
                    validate_every=study_task.validate_every,
                    steps=study_task.steps(options),
                    **arm_options,
                )
                all_jobs.append(Job(f"{task}|{arm}|{lr:g}|{seed}", train, config))
    return all_jobs


def grid(results: Results, task: str) -> list[JsonObject]:
    """Return a row for each arm: NLL by learning rate, and the rates near the best of all arms."""
    nll_nats: dict[str, dict[float, float]] = {}  # of the runs that did not fail
    for arm in ARMS:
        nll_nats[arm] = {}
        for lr in RATES:
            nll = results[f"{task}|{arm}|{lr:g}|0"].get("nll_nats")
            if nll is not None:
                nll_nats[arm][lr] = nll
    best = min(min(by_rate.values()) for by_rate in nll_nats.values() if by_rate)

    rows = []
    for arm, by_rate in nll_nats.items():
        near = [lr for lr, nll in by_rate.items() if nll <= NEAR * best]
        row = {
            "arm": arm,
            "nll_nats": {f"{lr:g}": by_rate.get(lr) for lr in RATES},
            "best_lr": _best_rate(by_rate),
            "rates_near_the_best_of_all": near,
            "decades": np.log10(max(near) / min(near)) if near else None,
            "failed": len(RATES) - len(by_rate),
        }
        rows.append(row)
    return rows


def _best_rate(nll_nats: Mapping[float, float]) -> float | None:
    """Return the largest rate with the smallest NLL; None if all runs failed."""
    if not nll_nats:
        return None
    smallest = min(nll_nats.values())
    return max(lr for lr, nll in nll_nats.items() if nll == smallest)


def recovery(options: argparse.Namespace, all_jobs: Sequence[Job]) -> list[JsonObject]:
    """Return a row for each arm: the steps after the shift until the held-out bound recovers.

    They are None for a run whose bound is never within 5% of its value before the shift.
    """
    shift = options.digit_steps
    recovery_steps: dict[str, list[int | None]] = {}
    bounds: dict[str, list[float]] = {}
    for job in all_jobs:
        arm = job.name.split("|")[1]
        minus_elbo = {row["step"]: -row["elbo_nats"] for row in _validations(job)}
        before = minus_elbo.get(shift)
        recovered = None
        if before:
            near = [step for step, nats in minus_elbo.items() if nats <= NEAR * before]
            recovered = min((step - shift for step in near if step > shift), default=None)
        recovery_steps.setdefault(arm, []).append(recovered)
        bounds.setdefault(arm, []).append(float("nan") if before is None else before)

    rows = []
    for arm, steps in recovery_steps.items():
        rows.append({"arm": arm, "steps": steps, "minus_elbo_before": spread(bounds[arm])})
    return rows


def _validations(job: Job) -> Iterator[JsonObject]:
    for row in Run.open(job.config.out).rows("validation"):
        if row.get("elbo_nats") is not None:
            yield row


def draw(tables: JsonObject, path: Path) -> None:
    """Plot held-out NLL by learning rate, a line for each arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, task in zip(figure.subplots(1, 2), GRID_TASKS, strict=True):
        best = float("inf")
        for row in tables[task]:
            nll_nats = {float(lr): nll for lr, nll in row["nll_nats"].items() if nll is not None}
            axes.plot(list(nll_nats), list(nll_nats.values()), marker="o", label=row["arm"])
            best = min([best, *nll_nats.values()])
        axes.axhline(NEAR * best, color="grey", linestyle=":")
        axes.set(
            xscale="log",
            xlabel="learning rate",
            ylabel=f"held-out NLL, nats ({task})",
            ylim=(0.95 * best, 1.8 * best),
        )
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; finished runs are reused"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the tables")
    parser.add_argument(
        "--text-steps", type=int, default=150, help="updates of 1,024 padded tokens"
    )
    parser.add_argument(
        "--digit-steps",
        type=int,
        default=600,
        help="updates of 50 digits, before the shift and again after it",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="seeds of the shift; the grids have one"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    return parser.parse_args()


def main() -> None:
    """Run the study with the options of the command line."""
    options = parse()
    prepare_corpus(options.out / "corpus")
    all_rates = dict.fromkeys(ARMS, RATES)
    results: dict[str, JsonObject] = {}
    for task in reversed(GRID_TASKS):
        results |= run_all(jobs(options, task, all_rates, [0]), options.jobs)
    tables: JsonObject = {task: grid(results, task) for task in GRID_TASKS}

    best_rates = {}
    for row in tables["digits"]:
        best_rates[row["arm"]] = [row["best_lr"]] if row["best_lr"] else []
    shift_jobs = jobs(options, SHIFT_TASK, best_rates, range(options.seeds))
    run_all(shift_jobs, options.jobs)
    tables[SHIFT_TASK] = recovery(options, shift_jobs)
    tables["steps"] = {"text": options.text_steps, "digits": options.digit_steps}
    draw(tables, options.out / "step_size.png")
    report("step_size", tables, options.results, kind="study")


if __name__ == "__main__":
    main()
