"""How much do adapted step sizes forgive a wrong learning rate, and how soon do they follow a shift of the data?

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.benchmarks.harness import report
from experiments.data.binarisation import binarise
from experiments.data.readers import read
from experiments.data.texts import BUILT_IN, texts_of
from experiments.images.task import DensityTask, ImageObjective
from experiments.studies.harness import Job, run_all, spread
from experiments.text.presets import MODELS
from experiments.text.task import Objective, TextTask
from experiments.training import optimizers
from experiments.training.loop import fit_task
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from univae.optim.parameter_groups import parameter_groups
from univae.text.corpus import Corpus, split
from univae.text.tokenizers import train_tokenizer
from univae.vae.model import UniVAE, UniVAEConfig

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NEAR = 1.05  # of the best

CONSTANT: dict[str, Any] = {"warmup": 0.0, "lr_floor": 1.0}
# the defaults need thousands of steps to matter
FAST: dict[str, Any] = {"scale_lr": 0.02, "gain_lr": 0.02}
ARMS: dict[str, dict[str, Any]] = {
    "sgd, constant": {"optimizer": "sgd", **CONSTANT},
    "sgd, cosine": {"optimizer": "sgd"},
    "egdd": {"optimizer": "egdd", **CONSTANT},
    "egdd, fast": {"optimizer": "egdd", **CONSTANT, **FAST},
    "adamw, constant": CONSTANT,
    "adamw, cosine": {},
    "adamw, scales": {"adapt_step_size": "scale", **CONSTANT, **FAST},
    "adamw, scales by halves": {
        "adapt_step_size": "scale",
        "adapt_halves": True,
        "accumulate": 2,
        **CONSTANT,
        **FAST,
    },
    "prodigy": {"prodigy": True, **CONSTANT},
}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A run of the study."""

    out: Path
    shared: Path  # the tokenised corpus
    task: Literal["text", "digits", "shift"]
    prodigy: bool = False


def train(config: Config) -> dict[str, Any]:
    """Fit the task of a configuration."""
    folder = Run.create(config.out, dataclasses.asdict(config))
    reseed(config.seed, "weights")
    task = _text(config) if config.task == "text" else _digits(config)
    return fit_task(task, config, folder, _prodigy if config.prodigy else optimizers.build)


def _prodigy(module: nn.Module, settings: Settings, device: torch.device) -> Optimizer:
    from prodigyopt import Prodigy

    groups = parameter_groups(module, settings.weight_decay)
    return Prodigy(groups, lr=settings.lr, betas=(settings.beta1, settings.beta2))


def _text(config: Config) -> TextTask:
    corpus = Corpus.open(config.shared)
    # its statistics would be those of half a batch in one arm
    shape = MODELS["tiny"] | {"bn_gamma": 0.0}
    model = UniVAE(UniVAEConfig(2048, **shape))
    indices, held_out = split(len(corpus), 0.05, 0)
    objective = Objective(batch_tokens=1024 // config.accumulate, validation_samples=16)
    return TextTask(model, objective, config.seed, (corpus, indices), corpus.gather(held_out[:256]))


class Turning(DensityTask):
    """Digits, upright in the first half of training and turned by 90 degrees in the second."""

    def __init__(self, steps: int, *task: Any) -> None:
        super().__init__(*task)
        self.half = steps // 2
        per_epoch = len(super().batches(0)) // (1 if task[1].batch_size == BATCH else 2)
        self.turned_from = self.half / per_epoch

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        upright = super().batches(epoch)
        first = round(min(1.0, max(0.0, self.turned_from - epoch)) * len(upright))
        return [
            batch + (0 if i < first else len(self.data) // 2) for i, batch in enumerate(upright)
        ]

    def validate(self, progress: Progress) -> dict[str, Any]:
        upright, turned = self.held_out.chunk(2)
        held_out = self.held_out
        self.held_out = upright if progress.step <= self.half else turned
        try:
            return super().validate(progress)
        finally:
            self.held_out = held_out


BATCH = 50


def _digits(config: Config) -> DensityTask:
    data = read("digits")
    indices, held_out = split(len(data), 0.2, 0)
    objective = ImageObjective(
        binarisation="dynamic", batch_size=BATCH // config.accumulate, validation_samples=16
    )
    model = MLPVAE(Pixels(data.shape), latents=(16,), hidden=((128, 128),))
    fixed = binarise(data, "static").batch(held_out[:300])
    if config.task == "digits":
        return DensityTask(model, objective, config.seed, (data, indices), fixed)
    both = dataclasses.replace(
        data, values=np.concatenate([data.values, np.rot90(data.values, axes=(-2, -1))])
    )
    pair = torch.cat([fixed, fixed.rot90(dims=(-2, -1))])
    return Turning(config.steps, model, objective, config.seed, (both, indices), pair)


def jobs(
    given: argparse.Namespace, task: Any, rates: Mapping[str, Sequence[float]], seeds: Sequence[int]
) -> list[Job]:
    """A job for every arm, learning rate and seed."""
    steps = {"text": given.text_steps, "digits": given.digit_steps, "shift": 2 * given.digit_steps}[
        task
    ]
    common = {
        "threads": 1,
        "checkpoint_every": 0,
        "validate_every": 20 if task == "shift" else 0,
        "steps": steps,
    }
    return [
        Job(
            f"{task}|{arm}|{lr:g}|{seed}",
            train,
            Config(
                out=given.out
                / f"{task}-{arm.replace(', ', '-').replace(' ', '-')}-lr{lr:g}-seed{seed}",
                shared=given.out / "corpus",
                task=task,
                lr=lr,
                seed=seed,
                **common,
                **ARMS[arm],
            ),
        )
        for arm in ARMS
        for lr in rates[arm]
        for seed in seeds
    ]


def grid(found: Mapping[str, Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
    """One row an arm: NLL by learning rate, and which rates are near the best of all."""
    table = {
        arm: {lr: found[f"{task}|{arm}|{lr:g}|0"].get("nll_nats") for lr in RATES} for arm in ARMS
    }
    best = min(nll for row in table.values() for nll in row.values() if nll is not None)
    rows = []
    for arm, row in table.items():
        near = [lr for lr, nll in row.items() if nll is not None and nll <= NEAR * best]
        own = {nll: lr for lr, nll in row.items() if nll is not None}
        rows.append(
            {
                "arm": arm,
                "nll_nats": {f"{lr:g}": nll for lr, nll in row.items()},
                "best_lr": own[min(own)] if own else None,
                "rates_near_the_best_of_all": near,
                "decades": np.log10(max(near) / min(near)) if near else None,
                "failed": sum(nll is None for nll in row.values()),
            }
        )
    return rows


def recovery(given: argparse.Namespace, all_jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Steps after the turn until the held-out bound is near what it was.

    An arm that never gets there says so.
    """
    times: dict[str, list[Any]] = {}
    bounds: dict[str, list[float]] = {}
    for job in all_jobs:
        arm = job.name.split("|")[1]
        curve = {row["step"]: -row["elbo_nats"] for row in _validations(job)}
        before = curve.get(given.digit_steps)
        after = [
            s
            for s, bound in curve.items()
            if before and s > given.digit_steps and bound <= NEAR * before
        ]
        times.setdefault(arm, []).append(min(after) - given.digit_steps if after else None)
        bounds.setdefault(arm, []).append(before if before is not None else float("nan"))
    return [
        {"arm": arm, "steps": times[arm], "minus_elbo_before": spread(bounds[arm])} for arm in times
    ]


def _validations(job: Job) -> Iterator[dict[str, Any]]:
    yield from (
        row
        for row in Run.open(job.config.out).rows("validation")
        if row.get("elbo_nats") is not None
    )


def prepare(folder: Path) -> None:
    """Tokenise the text once."""
    if not (folder / "DONE").exists():
        tokenizer = train_tokenizer("bpe", texts_of(BUILT_IN), 2048)
        Corpus.build(texts_of(BUILT_IN), tokenizer, folder, max_length=MODELS["tiny"]["max_length"])
        (folder / "DONE").touch()


def draw(tables: Mapping[str, Any], path: Path) -> None:
    """Held-out NLL by learning rate, a line an arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, task in zip(figure.subplots(1, 2), ("text", "digits"), strict=True):
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


def main() -> None:
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
    given = parser.parse_args()
    prepare(given.out / "corpus")
    everywhere = dict.fromkeys(ARMS, RATES)
    found: dict[str, dict[str, Any]] = {}
    for task in ("digits", "text"):
        found |= run_all(jobs(given, task, everywhere, [0]), given.jobs)
    tables: dict[str, Any] = {task: grid(found, task) for task in ("text", "digits")}
    best = {row["arm"]: [row["best_lr"]] if row["best_lr"] else [] for row in tables["digits"]}
    turning = jobs(given, "shift", best, range(given.seeds))
    run_all(turning, given.jobs)
    tables["shift"] = recovery(given, turning)
    tables["steps"] = {"text": given.text_steps, "digits": given.digit_steps}
    draw(tables, given.out / "step_size.png")
    report("step_size", tables, given.results, kind="study")


if __name__ == "__main__":
    main()
