"""Constraints of a critic on point sets whose modes are known, at equal processor time.

Three sets of two columns: ``ring`` (8 Gaussians on a circle), ``grid`` (25 on a lattice, 20
deviations apart) and ``roll`` (a Swiss roll). Five methods: gradient normalisation (``gn``,
``gran``), WGAN-GP (``gp``), spectral norm (``sn``), and relativistic pairing with R1 + R2
(``r1r2``). All have the same processor time, hence different numbers of steps. The learning rate is
the best of three on one seed, by the exact Wasserstein distance; the table has all seeds at that
rate. ``modes`` is the number of Gaussians with at least a fifth of their share of the samples;
``near`` is the fraction of samples within four deviations of a mean.

``python -m experiments.studies.wgan_toys --out runs/toys --results
experiments/results/wgan_toys.json``
"""

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments.benchmarks.harness import report
from experiments.data.arrays import Data
from experiments.gans.config import GanOptions, GanShape, model_config
from experiments.gans.task import GanTask, PlayerSteps
from experiments.studies.harness import Job, Results, failures, finished, run_all, spread
from experiments.studies.reuse import bad_input_ends
from experiments.studies.toy_sets import DEVIATION, TOYS, Toy, centres, points, scale
from experiments.training.distributed import join
from experiments.training.loop import fit
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from experiments.training.threads import threads_of_run
from gan.metrics import exact_wasserstein, nearest
from gan.networks.registry import NetworkName
from gan.players import Players
from univae.checkpoint import JsonObject

SIZE = 50_000  # points to train on
MEASURED = 1000  # generated and real points between which exact transport is computed
GENERATED = 10_000  # points of a validation
NEAR_DEVIATIONS = 4  # a point within this many deviations of a mean belongs to its mode
SHARE_DIVISOR = 5  # a mode is present if it has at least its share of the points over this
RATES = (3e-4, 6e-4, 1.2e-3)  # learning rates of the critic
RATIO = 3.0  # learning rate of the generator over that of the critic
PLAIN: JsonObject = {"normalization": "none"}
METHODS: dict[str, JsonObject] = {
    "gn": {"normalization": "gn", "loss": "non-saturating", "n_critic": 2, "rescale": False},
    "gran": {"normalization": "gran", "loss": "non-saturating", "n_critic": 2},
    "gp": {**PLAIN, "loss": "wasserstein", "gp": 1.0},
    "sn": {**PLAIN, "loss": "non-saturating", "n_critic": 2, "spectral": "reshaped"},
    "r1r2": {**PLAIN, "loss": "relativistic", "r1": 0.1, "r2": 0.1},
}
# Columns of the table, each with the mean and the deviation over the seeds.
COLUMNS = ("steps", "wasserstein", "floor", "modes", "near")


@dataclass(frozen=True, kw_only=True)
class Config(Settings, GanOptions, GanShape):
    """A run: a toy, and the options of training."""

    toy: Toy
    out: Path
    network: NetworkName = "mlp"
    latent: int = 2
    batch_size: int = 128
    ema_images: float = 20_000.0
    lr_floor: float = 0.0
    warmup: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0
    threads: int = 1
    checkpoint_every: int = 0
    validate_every: int = 0

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        GanOptions.__post_init__(self)


def measure(toy: Toy, fake: Tensor) -> JsonObject:
    """Return the exact Wasserstein distance, its floor, the modes, and the fraction near one."""
    real = points(toy, MEASURED, 1)
    row: JsonObject = {
        "wasserstein": exact_wasserstein(real, fake[:MEASURED]),
        "floor": _floor(toy, MEASURED),
    }
    means = centres(toy)
    if means is not None:
        distance, mode = nearest(fake, means / scale(toy))
        is_near = distance < NEAR_DEVIATIONS * DEVIATION / scale(toy)
        counts = torch.bincount(mode[is_near], minlength=len(means))
        is_present = counts >= len(fake) / len(means) / SHARE_DIVISOR
        row["modes"] = int(is_present.sum())
        row["near"] = is_near.double().mean().item()
    return row


@functools.cache
def _floor(toy: Toy, count: int) -> float:
    return exact_wasserstein(points(toy, count, 1), points(toy, count, 2))


def task_of(config: Config) -> GanTask:
    """Return the task of a run: the two networks and their data."""
    values = points(config.toy, SIZE, 0).numpy().astype(np.float32)
    data = Data(values, None, None, config.toy, "table")
    reseed(config.seed, "weights")
    players = Players(model_config(config, data, 0))

    def validate(players: Players, progress: Progress, rows: int) -> JsonObject:
        row = measure(config.toy, players.generator(torch.randn(rows, config.latent)))
        return {"selection": row["wasserstein"], **row}

    return GanTask(players, config, config.seed, (data, np.arange(SIZE)), validate, GENERATED)


def train(config: Config) -> JsonObject:
    """Train one run; return the result of training."""
    decay = 0.5 ** (config.batch_size * config.generator_ratio / config.ema_images)
    folder = Run.create(config.out, dataclasses.asdict(config))
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(Settings)}
    settings = Settings(**values | {"ema": decay})
    with join(settings.device) as world, threads_of_run(settings.threads, None, world):
        result = fit(PlayerSteps(task_of(config), settings, world), settings, folder)
        folder.finish(result)
        return result


def jobs(
    arguments: argparse.Namespace,
    toy: Toy,
    method: str,
    rates: Sequence[float],
    seeds: Sequence[int],
) -> list[Job]:
    """Return the runs of one method on one toy, by rate and seed, of equal processor time."""
    runs = []
    for rate in rates:
        for seed in seeds:
            out = arguments.out / f"{toy}-{method}-lr{rate:g}-seed{seed}"
            options: JsonObject = {
                "seed": seed,
                "lr": rate,
                "generator_lr": RATIO * rate,
                "minutes": arguments.seconds / 60,
                "clock": "processor",
                "log_every": 200,
                **METHODS[method],
            }
            runs.append(Job(out.name, train, Config(toy=toy, out=out, **options)))
    return runs


def best_rate(results: Results, runs: Sequence[Job]) -> float | None:
    """Return the learning rate of the run with the smallest distance, or None if all failed."""
    done = finished(results)
    distances = []
    for job in runs:
        if job.name in done:
            distances.append((done[job.name]["wasserstein"], job.config.lr))
    return min(distances)[1] if distances else None


def compare_method(arguments: argparse.Namespace, toy: Toy, method: str) -> JsonObject:
    """Select the learning rate of a method on one toy, train all seeds with it; return the row."""
    trials = jobs(arguments, toy, method, arguments.rates, [0])
    rate = best_rate(run_all(trials, arguments.jobs), trials)
    if rate is None:
        return {"toy": toy, "method": method, "failed": len(trials)}

    runs = jobs(arguments, toy, method, [rate], range(arguments.seeds))
    results = run_all(runs, arguments.jobs)
    done = list(finished(results).values())
    row: JsonObject = {"toy": toy, "method": method, "lr": rate, "failed": len(failures(results))}
    for column in COLUMNS:
        values = [result[column] for result in done if column in result]
        if values:
            row[column] = spread(values)
    return row


def main() -> None:
    """Compare all methods on all toys and write the table as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; finished runs are reused"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    parser.add_argument(
        "--seconds", type=float, default=180.0, help="processor time of a run, in seconds"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method and toy")
    parser.add_argument("--toys", nargs="+", choices=tuple(TOYS), default=tuple(TOYS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=RATES,
        help="learning rates of the critic, compared on the first seed",
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for toy in arguments.toys:
        for method in arguments.methods:
            rows.append(compare_method(arguments, toy, method))
    result = {"seconds": arguments.seconds, "table": rows}
    report("wgan_toys", result, arguments.results, kind="study")


if __name__ == "__main__":
    with bad_input_ends("wgan_toys"):
        main()
