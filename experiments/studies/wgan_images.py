"""Image quality of gradient normalisation and of other critics at equal processor time.

Each method trains like ``univae train-gan --preset``, for ``--minutes`` of processor time on one
thread, from several seeds. Then ``univae evaluate-gan`` measures the last checkpoint, without a
selection of checkpoints: its moving average and its raw weights, in one feature space for all runs.
The table also has the floor (real rows against other real rows) and known faults, and for stacked
glyphs the number of modes of 1,000. The winner is the method with the smallest mean Fréchet
distance of the moving average. ``mnist_bars`` are the targets for MNIST at 20 minutes.

``python -m experiments.studies.wgan_images --data train-images-idx3-ubyte.gz --out runs/images
--results experiments/results/wgan_images.json``, or ``--data digits``, ``glyphs``,
``stacked-glyphs``
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiments import evaluate_gan, train_gan
from experiments.benchmarks.harness import report
from experiments.data.arrays import Data
from experiments.data.built_in import BUILT_IN
from experiments.data.readers import read
from experiments.gans.evaluation import METRICS
from experiments.gans.features import class_labels, train_feature_space
from experiments.gans.presets import PRESETS
from experiments.gans.samples import fixed_latents
from experiments.gans.scaling import to_grey_levels, to_unit_range
from experiments.reports.image_grid import COLUMNS, grid
from experiments.studies.harness import Job, Results, failures, finished, run_all, spread
from experiments.studies.reuse import bad_input_ends
from experiments.studies.wgan_ranking import mnist_bars, table, verdict
from experiments.studies.wgan_variants import VARIANTS
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject, write_json
from univae.run_folder import RunFolder

# The learning rates were selected by runs of three minutes on MNIST, from another seed.
METHODS: dict[str, JsonObject] = {
    "gn": PRESETS["mnist"],
    "gn-cr": {**PRESETS["mnist"], "consistency": 5.0},
    "gran": {**PRESETS["mnist"], "normalization": "gran"},
    "gp": PRESETS["wgan-gp"],
    "sn": PRESETS["spectral"],
    "r1r2": PRESETS["relativistic"],
    **VARIANTS,
}
DEFAULT_METHODS = ("gn", "gp", "sn", "r1r2")
EVERY = 3000  # steps between validations, and between checkpoints
FEATURE_STEPS = 1000  # training steps of the classifier whose features all runs share
GREY_LEVELS = 256


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """An evaluation of a run, and the folder for its result."""

    run: Path
    out: Path
    count: int
    threads: int = 1
    resume: bool = False


def job(arguments: argparse.Namespace, method: str, seed: int, features: str) -> Job:
    """Return the training of one method from one seed."""
    out = arguments.out / f"{method}-seed{seed}"
    options = {
        "minutes": arguments.minutes,
        "clock": "processor",
        "threads": 1,
        "device": "cpu",
        "features": features,
        "validate_every": EVERY,
        "checkpoint_every": EVERY,
    }
    config = train_gan.Config.of(
        data=arguments.data, out=out, seed=seed, **METHODS[method] | options
    )
    return Job(out.name, train_gan.main, config)


def score(config: Scoring) -> None:
    """Evaluate a run with ``evaluate-gan``; write the result to ``config.out / "DONE"``."""
    config.out.mkdir(parents=True, exist_ok=True)
    result = evaluate_gan.main(
        evaluate_gan.Config(run=config.run, count=config.count, checkpoint="last", device="cpu"),
    )
    write_json(config.out / "DONE", result)


def train_shared_features(data: Data, out: Path) -> str:
    """Train one classifier for all runs unless it exists; return the value of ``--features``."""
    if class_labels(data) is None:
        return "auto"
    train_feature_space(data, out / "features", steps=FEATURE_STEPS, threads=1)
    return str(out / "features")


def draw(arguments: argparse.Namespace, data: Data, runs: Mapping[str, str]) -> Path:
    """Draw a row of images per method, all from the same latents, below a row of real images."""
    from matplotlib.figure import Figure

    order = np.random.default_rng(0).permutation(len(data))[:COLUMNS]
    strips: dict[str, Tensor] = {"real": to_unit_range(data.batch(order), data.levels)}
    for method, name in runs.items():
        trained_gan = TrainedGan.open(arguments.out / name, "cpu", "last")
        strips[method] = trained_gan.generate(fixed_latents(trained_gan.latent_width, COLUMNS))

    figure = Figure(figsize=(10, 0.72 * len(strips)), layout="constrained")
    all_axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axes, (title, x) in zip(all_axes, strips.items(), strict=True):
        image = grid(to_grey_levels(x.float()), GREY_LEVELS, COLUMNS)
        axes.imshow(image, cmap="gray", vmin=0, vmax=GREY_LEVELS - 1)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(title, rotation=0, ha="right", va="center")
    path: Path = arguments.out / "same_latents.png"
    figure.savefig(path, dpi=120)
    return path


def draw_curves(folders: Mapping[str, Path], path: Path) -> None:
    """Plot the Fréchet distance of each validation by processor time, runs of a method alike.

    Validations have fewer images than the table, so that their distances are larger.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    methods = list(dict.fromkeys(name.rpartition("-seed")[0] for name in folders))
    named: set[str] = set()
    for name, folder in folders.items():
        method = name.rpartition("-seed")[0]
        rows = RunFolder.open(folder).rows("validation")
        validations = [row for row in rows if row["step"] > 0]
        axes.plot(
            [row["seconds"] / 60 for row in validations],
            [row["frechet_distance"] for row in validations],
            color=f"C{methods.index(method)}",
            marker=".",
            label=None if method in named else method,
        )
        named.add(method)
    axes.set(xlabel="minutes of processor time", ylabel="Fréchet distance", yscale="log")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def study(arguments: argparse.Namespace) -> JsonObject:
    """Train, measure and compare; finished runs and measurements are reused."""
    data = read(arguments.data)
    arguments.out.mkdir(parents=True, exist_ok=True)
    features = train_shared_features(data, arguments.out)
    runs = []
    for seed in range(arguments.seeds):
        runs += [job(arguments, method, seed, features) for method in arguments.methods]
    trained = run_all(runs, arguments.jobs)
    done = finished(trained)
    scorings = [_scoring_of(arguments, run) for run in runs if run.name in done]
    scored = run_all(scorings, arguments.jobs) if scorings else {}
    measured = finished(scored)
    rows = table(arguments, trained, scored)

    result: JsonObject = {
        "data": data.name,
        "minutes": arguments.minutes,
        "seeds": arguments.seeds,
    }
    if measured:
        result |= _comparison(arguments, data, rows, measured)
    if done and arguments.figure is not None:
        draw_curves({name: arguments.out / name for name in done}, arguments.figure)
    return result | {"failed": failures({**trained, **scored}), "table": rows}


def _scoring_of(arguments: argparse.Namespace, run: Job) -> Job:
    out = arguments.out / f"{run.name}-scored"
    return Job(run.name, score, Scoring(run=run.config.out, out=out, count=arguments.count))


def _comparison(
    arguments: argparse.Namespace,
    data: Data,
    rows: Sequence[JsonObject],
    measured: Results,
) -> JsonObject:
    first = next(iter(measured.values()))
    floor = spread(row["floor"]["frechet_distance"] for row in measured.values())
    result: JsonObject = {
        "feature_space": first["feature_space"],
        "count": first["count"],
        "floor_frechet": floor,
        "verdict": verdict(rows, floor["mean"]),
    }
    if data.name not in BUILT_IN:  # the targets are for MNIST
        result["mnist_bars"] = mnist_bars(rows)
    result["ladder"] = {name: _metrics_of(row) for name, row in first["ladder"].items()}

    first_runs: dict[str, str] = {}
    for name in measured:
        first_runs.setdefault(name.rpartition("-seed")[0], name)
    drawn = {method: first_runs[method] for method in arguments.methods if method in first_runs}
    result["strip"] = str(draw(arguments, data, drawn))
    return result


def _metrics_of(row: JsonObject) -> JsonObject:
    return {metric: row[metric] for metric in METRICS if metric in row}


def main() -> None:
    """Run the study and write its table as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, help="images: a file, a folder, or digits, glyphs, stacked-glyphs"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; finished runs are reused"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    parser.add_argument("--figure", type=Path, help="a PNG file for the distances by time")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=DEFAULT_METHODS)
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="processor time of each run, in minutes"
    )
    parser.add_argument("--seeds", type=int, default=2, help="runs of each method")
    parser.add_argument(
        "--count",
        type=int,
        default=5000,
        help="generated rows to measure, at most half of the training rows",
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report("wgan_images", study(arguments), arguments.results, kind="study")


if __name__ == "__main__":
    with bad_input_ends("wgan_images"):
        main()
