"""What holds a critic, on point sets whose modes are known, at equal processor time.

Three sets of two columns: ``ring`` (8 Gaussians on a circle), ``grid`` (25 on a lattice, 20
deviations apart) and ``roll`` (a Swiss roll). Five methods: gradient normalisation (``gn``,
``gran``), WGAN-GP (``gp``), spectral norm (``sn``), and relativistic pairing with R1 + R2
(``r1r2``). Each gets the same processor time, and the steps it has time for. The learning rate is
the best of three on one seed, by the exact Wasserstein distance; the table is of all seeds at that
rate. ``modes`` counts Gaussians with at least a fifth of their share of the samples; ``near`` is
the share of samples within four deviations of one.

``python -m experiments.studies.wgan_toys --out runs/toys --results
experiments/results/wgan_toys.json``
"""

import argparse
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from experiments.benchmarks.harness import report
from experiments.data.arrays import Data
from experiments.gans.config import GanOptions, GanShape, Players, model_config
from experiments.gans.task import GanTask, PlayerSteps
from experiments.studies.harness import Job, run_all, spread
from experiments.training.distributed import join
from experiments.training.loop import fit
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress, reseed
from gan.metrics import exact_wasserstein, nearest

SIZE = 50_000  # points to train on
MEASURED = 1000  # points whose exact transport to as many real ones is computed
DEVIATION = 0.05
RATES = (3e-4, 6e-4, 1.2e-3)  # of the critic; RATIO times that is the generator's
RATIO = 3.0
PLAIN: dict[str, Any] = {"normalization": "none"}
METHODS: dict[str, dict[str, Any]] = {
    "gn": {"normalization": "gn", "loss": "non-saturating", "n_critic": 2, "rescale": False},
    "gran": {"normalization": "gran", "loss": "non-saturating", "n_critic": 2},
    "gp": {**PLAIN, "loss": "wasserstein", "gp": 1.0},
    "sn": {**PLAIN, "loss": "non-saturating", "n_critic": 2, "spectral": "reshaped"},
    "r1r2": {**PLAIN, "loss": "relativistic", "r1": 0.1, "r2": 0.1},
}
Toy = Literal["ring", "grid", "roll"]


@dataclass(frozen=True, kw_only=True)
class Config(Settings, GanOptions, GanShape):
    """One run: a toy, and how it is trained."""

    toy: Toy
    out: Path
    network: Literal["auto", "mlp", "conv", "resnet", "attention"] = "mlp"
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


def centres(toy: Toy) -> Tensor | None:
    """The means of the Gaussians, (M, 2), in units in which they are 20 deviations apart on the grid."""
    if toy == "roll":
        return None
    if toy == "grid":
        return torch.cartesian_prod(torch.arange(-2.0, 3.0), torch.arange(-2.0, 3.0))
    angles = torch.arange(8) * (2 * math.pi / 8)
    return 2 * torch.stack((angles.cos(), angles.sin()), 1)


def scale(toy: Toy) -> float:
    """What divides the coordinates, so that each has a deviation of about 1."""
    return {"ring": math.sqrt(2), "grid": math.sqrt(2), "roll": 1.0}[toy]


def points(toy: Toy, count: int, seed: int) -> Tensor:
    """Draw (count, 2) points."""
    noise = torch.Generator().manual_seed(seed)
    found = centres(toy)
    if found is None:
        turn = 1.5 * math.pi * (1 + 2 * torch.rand(count, generator=noise))
        roll = torch.stack((turn * turn.cos(), turn * turn.sin()), 1) / 7.0
        return roll + 0.02 * torch.randn(count, 2, generator=noise)
    which = torch.randint(len(found), (count,), generator=noise)
    return (found[which] + DEVIATION * torch.randn(count, 2, generator=noise)) / scale(toy)


def measure(toy: Toy, fake: Tensor) -> dict[str, Any]:
    """Modes found, share near one, and the exact Wasserstein distance with its floor."""
    real = points(toy, MEASURED, 1)
    row: dict[str, Any] = {
        "wasserstein": exact_wasserstein(real, fake[:MEASURED]),
        "floor": _floor(toy, MEASURED),
    }
    found = centres(toy)
    if found is not None:
        distance, which = nearest(fake, found / scale(toy))
        near = distance < 4 * DEVIATION / scale(toy)
        counts = torch.bincount(which[near], minlength=len(found))
        row |= {
            "modes": int((counts >= len(fake) / len(found) / 5).sum()),
            "near": near.double().mean().item(),
        }
    return row


@functools.cache
def _floor(toy: Toy, count: int) -> float:
    return exact_wasserstein(points(toy, count, 1), points(toy, count, 2))


def task_of(config: Config) -> GanTask:
    """The players of a run, and their data."""
    data = Data(
        points(config.toy, SIZE, 0).numpy().astype(np.float32), None, None, config.toy, "table"
    )
    reseed(config.seed, "weights")
    players = Players(model_config(config, data, 0))

    def validate(players: Players, progress: Progress) -> dict[str, Any]:
        row = measure(config.toy, players.generator(torch.randn(10_000, config.latent)))
        return {"selection": row["wasserstein"], **row}

    return GanTask(players, config, config.seed, (data, np.arange(SIZE)), validate)


def train(config: Config) -> dict[str, Any]:
    """Train one run to its end."""
    decay = 0.5 ** (config.batch_size * config.generator_ratio / config.ema_images)
    folder = Run.create(config.out, dataclasses.asdict(config))
    settings = Settings(
        **{f.name: getattr(config, f.name) for f in dataclasses.fields(Settings)} | {"ema": decay}
    )
    with join(settings.device) as world:
        return fit(PlayerSteps(task_of(config), settings, world), settings, folder)


def jobs(
    given: argparse.Namespace, toy: Toy, method: str, rates: Sequence[float], seeds: Sequence[int]
) -> list[Job]:
    """Run of one method on one toy, by rate and seed, of equal processor time."""
    found = []
    for rate in rates:
        for seed in seeds:
            out = given.out / f"{toy}-{method}-lr{rate:g}-seed{seed}"
            options = {"seed": seed, "lr": rate, "generator_lr": RATIO * rate, **METHODS[method]}
            options |= {"minutes": given.seconds / 60, "clock": "processor", "log_every": 200}
            found.append(Job(out.name, train, Config(toy=toy, out=out, **options)))
    return found


def best_rate(found: Mapping[str, Mapping[str, Any]], chosen: Sequence[Job]) -> float | None:
    """The rate of the run with the smallest distance; none if all failed."""
    scored = [
        (found[job.name]["wasserstein"], job.config.lr)
        for job in chosen
        if "wasserstein" in found[job.name]
    ]
    return min(scored)[1] if scored else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; those that are done stay"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    parser.add_argument("--seconds", type=float, default=180.0, help="processor time of a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--toys", nargs="+", choices=("ring", "grid", "roll"), default=("ring", "grid", "roll")
    )
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=RATES,
        help="of the critic; tried on the first seed",
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for toy in given.toys:
        for method in given.methods:
            tried = jobs(given, toy, method, given.rates, [0])
            found = run_all(tried, given.jobs)
            rate = best_rate(found, tried)
            if rate is None:
                rows.append({"toy": toy, "method": method, "failed": len(tried)})
                continue
            own = jobs(given, toy, method, [rate], range(given.seeds))
            found |= run_all(own, given.jobs)
            results = [found[job.name] for job in own]
            kept = [
                name
                for name in ("steps", "wasserstein", "floor", "modes", "near")
                if name in results[0]
            ]
            row: dict[str, Any] = {"toy": toy, "method": method, "lr": rate}
            row["failed"] = sum("failed" in result for result in results)
            rows.append(
                row | {name: spread(r[name] for r in results if name in r) for name in kept}
            )
    report("wgan_toys", {"seconds": given.seconds, "table": rows}, given.results, kind="study")


if __name__ == "__main__":
    main()
