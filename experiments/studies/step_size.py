"""How much adapted step sizes forgive a wrong learning rate, and how soon they follow a shift.

Two tasks: a UniVAE on ``python-docs``, and a VAE on ``digits`` whose pixels are drawn black or
white at every visit. Every arm runs at five learning rates from 1e-4 to 1; reported are the best
held-out NLL, the rates whose NLL is within 5% of the best of all arms, and failures. Then digits
are turned by 90 degrees in mid-training, every arm at its own best rate: how many steps until the
held-out bound is within 5% of what it was before?

Prodigy is a dependency of this study alone: ``pip install prodigyopt``. ``python -m
experiments.studies.step_size --out runs/step_size --results experiments/results/step_size.json``
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.benchmarks.harness import report
from experiments.data.arrays import Data
from experiments.data.binarisation import binarise
from experiments.data.readers import read
from experiments.data.texts import BUILT_IN, texts_of
from experiments.images.task import DensityTask, ImageObjective
from experiments.studies.harness import Job, Results, run_all, spread
from experiments.text.presets import MODELS
from experiments.text.task import Objective, TextTask
from experiments.training import optimizers
from experiments.training.loop import fit_task
from experiments.training.optimizers import OptimizerOptions
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from univae.checkpoint import JsonObject
from univae.optim.parameter_groups import parameter_groups
from univae.text.corpus import Corpus, split
from univae.text.tokenizers import train_tokenizer
from univae.vae.model import UniVAE, UniVAEConfig

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEAR = 1.05  # times the best NLL or bound
VOCABULARY = 2048
TOKENS = 1024  # padded tokens in an update of the text task
DIGITS = 50  # in an update of the digits task

TaskName: TypeAlias = Literal["text", "digits", "shift"]

CONSTANT: JsonObject = {"warmup": 0.0, "lr_floor": 1.0}
# the default rates take thousands of steps to matter
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


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A run of the study."""

    out: Path
    shared: Path  # the tokenised corpus
    task: TaskName
    prodigy: bool = False


def train(config: Config) -> JsonObject:
    """Train the task of a configuration; return what ``fit_task`` returns."""
    folder = Run.create(config.out, dataclasses.asdict(config))
    reseed(config.seed, "weights")
    task = TASKS[config.task].create(config)
    return fit_task(task, config, folder, _prodigy if config.prodigy else optimizers.build)


def _prodigy(module: nn.Module, options: OptimizerOptions, device: torch.device) -> Optimizer:
    from prodigyopt import Prodigy

    groups = parameter_groups(module, options.weight_decay)
    betas = (options.beta1, options.beta2)
    optimizer: Optimizer = Prodigy(groups, lr=options.lr, betas=betas)
    return optimizer


def text_task(config: Config) -> TextTask:
    """Return the task of the tokenised corpus."""
    corpus = Corpus.open(config.shared)
    # without batch normalisation of the means: in one arm its statistics would be those of half a
    # batch
    shape = MODELS["tiny"] | {"bn_gamma": 0.0}
    model = UniVAE(UniVAEConfig(VOCABULARY, **shape))
    indices, held_out = split(len(corpus), 0.05, 0)
    objective = Objective(batch_tokens=TOKENS // config.accumulate, validation_samples=16)
    return TextTask(model, objective, config.seed, (corpus, indices), corpus.gather(held_out[:256]))


@dataclass(frozen=True)
class Digits:
    """The parts of a task on digits."""

    model: MLPVAE
    objective: ImageObjective
    data: Data
    training_rows: np.ndarray
    held_out: Tensor


def _digits(config: Config) -> Digits:
    data = read("digits")
    training_rows, held_out_rows = split(len(data), 0.2, 0)
    objective = ImageObjective(
        binarisation="dynamic", batch_size=DIGITS // config.accumulate, validation_samples=16
    )
    model = MLPVAE(Pixels(data.shape), latents=(16,), hidden=((128, 128),))
    held_out = binarise(data, "static").batch(held_out_rows[:300])
    return Digits(model, objective, data, training_rows, held_out)


def digits_task(config: Config) -> DensityTask:
    """Return the task of upright digits."""
    digits = _digits(config)
    return DensityTask(
        digits.model,
        digits.objective,
        config.seed,
        (digits.data, digits.training_rows),
        digits.held_out,
    )


class TurningTask(DensityTask):
    """Digits, upright in the first half of training and turned by 90 degrees in the second.

    The data and held-out images are the upright ones, then the turned ones.
    """

    def __init__(self, config: Config, digits: Digits, data: Data, held_out: Tensor) -> None:
        training_set = (data, digits.training_rows)
        super().__init__(digits.model, digits.objective, config.seed, training_set, held_out)
        self.half = config.steps // 2
        batches_per_step = 1 if digits.objective.batch_size == DIGITS else 2
        steps_per_epoch = len(super().batches(0)) // batches_per_step
        self.turning_epoch = self.half / steps_per_epoch

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Return the batches of an epoch, those after the turn with the rows of turned digits."""
        upright = super().batches(epoch)
        share = min(1.0, max(0.0, self.turning_epoch - epoch))
        first_turned = round(share * len(upright))
        turned = [batch + len(self.data) // 2 for batch in upright[first_turned:]]
        return [*upright[:first_turned], *turned]

    def validate(self, progress: Progress) -> JsonObject:
        """Validate on digits that are turned as those of training are at this step."""
        held_out = self.held_out
        upright, turned = held_out.chunk(2)
        self.held_out = upright if progress.step <= self.half else turned
        try:
            return super().validate(progress)
        finally:
            self.held_out = held_out


def turning_task(config: Config) -> TurningTask:
    """Return the task of digits that are turned in mid-training."""
    digits = _digits(config)
    upright = digits.data.values
    turned = np.rot90(upright, axes=(-2, -1))
    data = dataclasses.replace(digits.data, values=np.concatenate([upright, turned]))
    held_out = torch.cat([digits.held_out, digits.held_out.rot90(dims=(-2, -1))])
    return TurningTask(config, digits, data, held_out)


@dataclass(frozen=True)
class StudyTask:
    """A task: how it is created, its steps by the options of the study, and its validations."""

    create: Callable[[Config], TextTask | DensityTask]
    steps: Callable[[argparse.Namespace], int]
    validate_every: int = 0


TASKS: Mapping[str, StudyTask] = {
    "text": StudyTask(text_task, lambda options: options.text_steps),
    "digits": StudyTask(digits_task, lambda options: options.digit_steps),
    "shift": StudyTask(turning_task, lambda options: 2 * options.digit_steps, validate_every=20),
}
GRID_TASKS: tuple[TaskName, ...] = ("text", "digits")


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
    """Return a row for each arm: NLL by learning rate, and which rates are near the best of all."""
    nll_nats: dict[str, dict[float, float | None]] = {}
    for arm in ARMS:
        nll_nats[arm] = {lr: results[f"{task}|{arm}|{lr:g}|0"].get("nll_nats") for lr in RATES}
    finite = [nll for by_rate in nll_nats.values() for nll in by_rate.values() if nll is not None]
    best = min(finite)

    rows = []
    for arm, by_rate in nll_nats.items():
        known = {lr: nll for lr, nll in by_rate.items() if nll is not None}
        near = [lr for lr, nll in known.items() if nll <= NEAR * best]
        row = {
            "arm": arm,
            "nll_nats": {f"{lr:g}": nll for lr, nll in by_rate.items()},
            "best_lr": _best_rate(known),
            "rates_near_the_best_of_all": near,
            "decades": np.log10(max(near) / min(near)) if near else None,
            "failed": len(by_rate) - len(known),
        }
        rows.append(row)
    return rows


def _best_rate(nll_nats: Mapping[float, float]) -> float | None:
    """Return the rate of the smallest NLL, the largest such rate; None without any."""
    if not nll_nats:
        return None
    smallest = min(nll_nats.values())
    return max(lr for lr, nll in nll_nats.items() if nll == smallest)


def recovery(options: argparse.Namespace, all_jobs: Sequence[Job]) -> list[JsonObject]:
    """Return the steps after the turn until the held-out bound is near what it was, by arm.

    They are None for a run that does not get there.
    """
    turn = options.digit_steps
    times: dict[str, list[int | None]] = {}
    bounds: dict[str, list[float]] = {}
    for job in all_jobs:
        arm = job.name.split("|")[1]
        minus_elbo = {row["step"]: -row["elbo_nats"] for row in _validations(job)}
        before = minus_elbo.get(turn)
        recovered = None
        if before:
            near = [step for step, nats in minus_elbo.items() if nats <= NEAR * before]
            recovered = min((step for step in near if step > turn), default=None)
        times.setdefault(arm, []).append(None if recovered is None else recovered - turn)
        bounds.setdefault(arm, []).append(float("nan") if before is None else before)

    rows = []
    for arm in times:
        row = {"arm": arm, "steps": times[arm], "minus_elbo_before": spread(bounds[arm])}
        rows.append(row)
    return rows


def _validations(job: Job) -> Iterator[JsonObject]:
    for row in Run.open(job.config.out).rows("validation"):
        if row.get("elbo_nats") is not None:
            yield row


def prepare(folder: Path) -> None:
    """Tokenise the text, unless that is done."""
    if not (folder / "DONE").exists():
        tokenizer = train_tokenizer("bpe", texts_of(BUILT_IN), VOCABULARY)
        max_length = MODELS["tiny"]["max_length"]
        Corpus.build(texts_of(BUILT_IN), tokenizer, folder, max_length=max_length)
        (folder / "DONE").touch()


def draw(tables: JsonObject, path: Path) -> None:
    """Plot held-out NLL by learning rate, a line for each arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, task in zip(figure.subplots(1, 2), GRID_TASKS, strict=True):
        best = min(nll for row in tables[task] for nll in row["nll_nats"].values() if nll)
        for row in tables[task]:
            points = [(float(lr), nll) for lr, nll in row["nll_nats"].items() if nll is not None]
            axes.plot(*zip(*points, strict=True), marker="o", label=row["arm"])
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
        "--out", type=Path, required=True, help="folder of the runs; those that are done stay"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the tables")
    parser.add_argument("--text-steps", type=int, default=150, help="updates of 1024 padded tokens")
    parser.add_argument(
        "--digit-steps",
        type=int,
        default=600,
        help="updates of 50 digits, and as many after the turn",
    )
    parser.add_argument("--seeds", type=int, default=3, help="of the shift; the grids have one")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    return parser.parse_args()


def main() -> None:
    """Run the study with the options of the command line."""
    options = parse()
    prepare(options.out / "corpus")
    all_rates = dict.fromkeys(ARMS, RATES)
    results: dict[str, JsonObject] = {}
    for task in reversed(GRID_TASKS):
        results |= run_all(jobs(options, task, all_rates, [0]), options.jobs)
    tables: JsonObject = {task: grid(results, task) for task in GRID_TASKS}

    best_rates = {}
    for row in tables["digits"]:
        best_rates[row["arm"]] = [row["best_lr"]] if row["best_lr"] else []
    turning_jobs = jobs(options, "shift", best_rates, range(options.seeds))
    run_all(turning_jobs, options.jobs)
    tables["shift"] = recovery(options, turning_jobs)
    tables["steps"] = {"text": options.text_steps, "digits": options.digit_steps}
    draw(tables, options.out / "step_size.png")
    report("step_size", tables, options.results, kind="study")


if __name__ == "__main__":
    main()
