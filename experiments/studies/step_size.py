"""How far an adapted step size is from the tuned one, over five decades of starts.

Three tasks (:mod:`experiments.studies.step_size_tasks`): a UniVAE on ``python-docs``, a VAE on
``digits``, and one on a table of categories. Every arm starts at six rates from 1e-5 to 1. Reported
is the held-out NLL of each start relative to the best of the tuned arms on that task, and the
decades over which an arm stays within 5% of it, without a gap.

Where a start competes, within 15% of the best with the first seed, it runs with all seeds; the best
start of each arm does too. The other starts keep one seed: further seeds would not bring them to
within 5%.

Prodigy and D-Adaptation estimate their step size and keep ``lr`` at 1, as their authors ask; their
start is the first estimate, ``d0``. They, and schedule-free AdamW, are dependencies of this study
alone: ``pip install prodigyopt dadaptation schedulefree``.

Then digits are rotated by 90 degrees in mid-training, every arm at its best rate on ``digits``;
reported are the steps until the held-out bound is within 5% of its value before the rotation.

``python -m experiments.studies.step_size --out runs/step_size --results
experiments/results/step_size.json --figure docs/figures/step_size.png``. Runs follow each other in
one process of one thread; for two at once, start the command twice with other ``--tasks`` and the
same ``--out``, and then once with all of them.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.benchmarks.harness import report
from experiments.studies.harness import Job, Results, finished, run_here, spread
from experiments.studies.reuse import bad_input_ends
from experiments.studies.small_texts import prepare_corpus
from experiments.studies.step_size_tasks import TASKS, Config, TaskName, train
from experiments.training.run_folder import Run
from univae.checkpoint import JsonObject

RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEAR = 1.05  # times the best NLL or bound
COMPETES = 1.15  # times the best NLL: runs with all seeds
WIDE = 3.0  # decades
LARGEST_PERCENT = 2.0  # ratio above which no percentage is shown
TENTH = 1.1  # ratio below which percentages have a decimal
GRID_TASKS = ("text", "digits", "table")
SHIFT_TASK = "shift"

CONSTANT: JsonObject = {"warmup": 0.0, "lr_floor": 1.0}
# Higher rates of adaptation: the default ones have an effect after thousands of steps only.
FAST: JsonObject = {"scale_lr": 0.02, "gain_lr": 0.02}
FASTEST: JsonObject = {"scale_lr": 0.1, "gain_lr": 0.1}
TUNED: Mapping[str, JsonObject] = {
    "adamw, cosine": {},
    "adamw, constant": CONSTANT,
    "sgd, constant": {"optimizer": "sgd", **CONSTANT},
}
EGDD: Mapping[str, JsonObject] = {
    "egdd": {"optimizer": "egdd", **CONSTANT},
    "egdd, fast": {"optimizer": "egdd", **CONSTANT, **FAST},
    "egdd, fastest": {"optimizer": "egdd", **CONSTANT, **FASTEST},
}
ESTIMATED: Mapping[str, JsonObject] = {  # lr is 1, and the start is d0
    "prodigy": {"package": "prodigy", **CONSTANT},
    "d-adaptation": {"package": "d-adaptation", **CONSTANT},
}
ARMS: Mapping[str, JsonObject] = {
    **TUNED,
    **EGDD,
    "adamw, scales": {"adapt_step_size": "scale", **CONSTANT, **FAST},
    **ESTIMATED,
    "schedule-free": {"package": "schedule-free", **CONSTANT},
}
MODULES = ("prodigyopt", "dadaptation", "schedulefree")


def job(options: argparse.Namespace, task: TaskName, arm: str, start: float, seed: int) -> Job:
    """Return the run of an arm from a start: a learning rate, or the first estimate of one."""
    folder = arm.replace(", ", "-").replace(" ", "-")
    rates: JsonObject = {"lr": 1.0, "d0": start} if arm in ESTIMATED else {"lr": start}
    config = Config(
        out=options.out / f"{task}-{folder}-{start:g}-seed{seed}",
        shared=options.out / "corpus",
        task=task,
        seed=seed,
        threads=1,
        device="cpu",
        checkpoint_every=0,
        validate_every=TASKS[task].validate_every,
        steps=TASKS[task].steps(options),
        **rates,
        **ARMS[arm],
    )
    return Job(_name(task, arm, start, seed), train, config)


def _name(task: str, arm: str, start: float, seed: int) -> str:
    return f"{task}|{arm}|{start:g}|{seed}"


def train_grid(options: argparse.Namespace, task: TaskName) -> dict[str, JsonObject]:
    """Train every arm from every start with one seed, and those that compete with all seeds."""
    jobs = [job(options, task, arm, start, 0) for arm in ARMS for start in RATES]
    results = run_here(jobs)
    rows = grid(results, task, [0])
    more_jobs = []
    for row in rows:
        for start in RATES:
            ratio = row["to_best"][f"{start:g}"]
            if ratio is not None and (ratio <= COMPETES or start == row["best_start"]):
                for seed in range(1, options.seeds):
                    more_jobs.append(job(options, task, row["arm"], start, seed))
    return results | run_here(more_jobs)


def grid(results: Results, task: str, seeds: Sequence[int]) -> list[JsonObject]:
    """Return a row for each arm: NLL by start, its ratio to the best, and the decades near it.

    A start with a failed run has neither NLL nor ratio. Seeds that did not run are left out.
    """
    nll_nats: dict[str, dict[float, JsonObject]] = {}
    for arm in ARMS:
        nll_nats[arm] = {}
        for start in RATES:
            runs = {}
            for seed in seeds:
                name = _name(task, arm, start, seed)
                if name in results:
                    runs[name] = results[name]
            values = [run["nll_nats"] for run in finished(runs).values()]
            if len(values) == len(runs) and all(value is not None for value in values):
                nll_nats[arm][start] = spread(values)
    tuned = [row["mean"] for arm in TUNED for row in nll_nats[arm].values()]
    best = min(tuned)

    rows = []
    for arm, by_start in nll_nats.items():
        to_best = {start: row["mean"] / best for start, row in by_start.items()}
        is_near = [to_best.get(start, np.inf) <= NEAR for start in RATES]
        row: JsonObject = {
            "arm": arm,
            "nll_nats": {f"{start:g}": by_start.get(start) for start in RATES},
            "to_best": {f"{start:g}": to_best.get(start) for start in RATES},
            "best_start": min(to_best, key=lambda start: to_best[start]) if to_best else None,
            "decades": decades(is_near),
            "failed": len(RATES) - len(by_start),
        }
        rows.append(row)
    return rows


def decades(is_near: Sequence[bool]) -> float | None:
    """Return the decades that the longest series of starts in :data:`RATES` spans.

    >>> decades([False, True, True, False, True, False]), decades([False] * 6)
    (1.0, None)
    """
    longest = 0
    length = 0
    for near in is_near:
        length = length + 1 if near else 0
        longest = max(longest, length)
    return longest - 1.0 if longest else None


def recovery(options: argparse.Namespace, shift_jobs: Sequence[Job]) -> list[JsonObject]:
    """Return a row for each arm: the steps after the shift until the held-out bound recovers.

    They are None for a run whose bound is never within 5% of its value before the shift.
    """
    shift = options.shift_steps
    recovery_steps: dict[str, list[int | None]] = {}
    bounds: dict[str, list[float]] = {}
    for shift_job in shift_jobs:
        arm = shift_job.name.split("|")[1]
        minus_elbo = {row["step"]: -row["elbo_nats"] for row in _validations(shift_job)}
        before = minus_elbo.get(shift)
        steps_after = None
        if before:
            near = [step for step, nats in minus_elbo.items() if nats <= NEAR * before]
            steps_after = min((step - shift for step in near if step > shift), default=None)
        recovery_steps.setdefault(arm, []).append(steps_after)
        bounds.setdefault(arm, []).append(float("nan") if before is None else before)

    rows = []
    for arm, steps in recovery_steps.items():
        rows.append({"arm": arm, "steps": steps, "minus_elbo_before": spread(bounds[arm])})
    return rows


def _validations(shift_job: Job) -> Iterator[JsonObject]:
    for row in Run.open(shift_job.config.out).rows("validation"):
        if row.get("elbo_nats") is not None:
            yield row


def markdown(tables: JsonObject) -> str:
    """Return a table for each task, and the verdicts; nothing for results without ratios."""
    tasks = [task for task in GRID_TASKS if task in tables and "to_best" in tables[task][0]]
    if not tasks:
        return ""
    lines = []
    for task in tasks:
        starts = list(tables[task][0]["to_best"])
        lines += [
            f"| {task} | {' | '.join(starts)} | decades |",
            f"|---|{'---|' * len(starts)}---|",
        ]
        for row in tables[task]:
            cells = [_percent(ratio) for ratio in row["to_best"].values()]
            span = "none" if row["decades"] is None else f"{row['decades']:g}"
            lines.append(f"| {row['arm']} | {' | '.join(cells)} | {span} |")
        lines.append("")
    return "\n".join([*lines, verdict(tables, tasks)])


def _percent(ratio: float | None) -> str:
    """Return how far an NLL is above the best, in bold where it is near.

    >>> _percent(1.0312), _percent(1.2), _percent(31.0), _percent(None)
    ('**+3.1%**', '+20%', 'x 31', 'failed')
    """
    if ratio is None:
        return "failed"
    if ratio > LARGEST_PERCENT:
        return f"x {ratio:.3g}"
    digits = 1 if ratio < TENTH else 0
    percentage = f"{100 * (ratio - 1):+.{digits}f}%"
    return f"**{percentage}**" if ratio <= NEAR else percentage


def verdict(tables: JsonObject, tasks: Sequence[str]) -> str:
    """Return who stays within 5% of the tuned rate over three decades, on every task."""
    least: dict[str, float] = {}
    for task in tasks:
        for row in tables[task]:
            span = -1.0 if row["decades"] is None else row["decades"]
            least[row["arm"]] = min(least.get(row["arm"], np.inf), span)
    wide = [arm for arm, span in least.items() if span >= WIDE]
    from_egdd = [arm for arm in wide if arm in EGDD]
    others = [arm for arm in wide if arm not in EGDD]
    egdd = f"Of EGDD, {_listed(from_egdd)}" if from_egdd else "No setting of EGDD"
    other = _listed(others) if others else "none"
    return (
        f"{egdd} stays within 5% of the best tuned rate over three decades on every task; "
        f"of the others: {other}. Fewest decades on a task: {_spans(least)}."
    )


def _listed(arms: Sequence[str]) -> str:
    return " and ".join(f"`{arm}`" for arm in arms)


def _spans(least: Mapping[str, float]) -> str:
    spans = []
    for arm, span in least.items():
        spans.append(f"`{arm}` {'none' if span < 0 else f'{span:g}'}")
    return ", ".join(spans)


def draw(tables: JsonObject, path: Path) -> None:
    """Plot held-out NLL relative to the best by start, a line for each arm."""
    from matplotlib.figure import Figure

    tasks = [task for task in GRID_TASKS if task in tables]
    figure = Figure(figsize=(5 * len(tasks), 4.5), layout="constrained")
    all_axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for task, axes in zip(tasks, all_axes, strict=True):
        for row in tables[task]:
            ratios = {float(start): r for start, r in row["to_best"].items() if r is not None}
            style = "--" if row["arm"] in TUNED else "-"
            axes.plot(list(ratios), list(ratios.values()), style, marker="o", label=row["arm"])
        axes.axhline(NEAR, color="grey", linestyle=":")
        axes.set(
            xscale="log",
            xlabel="start: learning rate, or d0",
            ylabel="held-out NLL / best tuned",
            title=task,
            ylim=(0.9, 2.0),
        )
    lines, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; finished runs are reused"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the tables")
    parser.add_argument("--figure", type=Path, help="a PNG file for the figure")
    parser.add_argument(
        "--tasks", nargs="+", choices=(*GRID_TASKS, SHIFT_TASK), default=(*GRID_TASKS, SHIFT_TASK)
    )
    parser.add_argument("--text-steps", type=int, default=200, help="updates of 512 padded tokens")
    parser.add_argument("--digit-steps", type=int, default=800, help="updates of 50 digits")
    parser.add_argument("--table-steps", type=int, default=800, help="updates of 50 rows")
    parser.add_argument(
        "--shift-steps",
        type=int,
        default=400,
        help="updates of 50 digits, before the shift and again after it",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of a start that competes")
    return parser.parse_args()


def main(options: argparse.Namespace) -> JsonObject:
    """Train every run that is not finished; return the tables of the tasks."""
    prepare_corpus(options.out / "corpus")
    results: dict[str, JsonObject] = {}
    tables: JsonObject = {}
    for task in GRID_TASKS:
        needs = task in options.tasks or (task == "digits" and SHIFT_TASK in options.tasks)
        if needs:
            results |= train_grid(options, task)
            tables[task] = grid(results, task, range(options.seeds))
    if SHIFT_TASK in options.tasks:
        shift_jobs = []
        for row in tables["digits"]:
            if row["best_start"] is not None:
                for seed in range(options.seeds):
                    shift_jobs.append(job(options, SHIFT_TASK, row["arm"], row["best_start"], seed))
        results |= run_here(shift_jobs)
        tables[SHIFT_TASK] = recovery(options, shift_jobs)
    tables["steps"] = {task: TASKS[task].steps(options) for task in options.tasks}
    seconds = [run["processor_seconds"] for run in finished(results).values()]
    tables["processor_minutes"] = sum(seconds) / 60
    return tables


if __name__ == "__main__":
    arguments = parse()
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        print(f"step_size: needs pip install {' '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    with bad_input_ends("step_size"):
        study = main(arguments)
    report("step_size", study, arguments.results, kind="study")
    if arguments.figure is not None:
        draw(study, arguments.figure)
