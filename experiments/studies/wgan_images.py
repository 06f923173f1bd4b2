"""Which critic makes the best images at equal processor time: gradient normalisation and its rivals, by every metric.

Each method trains as ``univae train-gan --preset`` does, for ``--minutes`` of processor time on one
thread, from several seeds. Then ``univae evaluate-gan`` measures the last checkpoint, which is
nobody's choice: its moving average and its raw weights, in one feature space for all, with the
floor (real data against other real data) and known faults beside them; of stacked glyphs also the
modes of 1,000. The winner is the method with the smallest mean Fréchet distance of the moving
average. ``mnist_bars`` are what was asked for of MNIST at 20 minutes.

``python -m experiments.studies.wgan_images --data train-images-idx3-ubyte.gz --out runs/images
--results experiments/results/wgan_images.json``, or ``--data digits``, ``glyphs``,
``stacked-glyphs``
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments import evaluate_gan, train_gan
from experiments.benchmarks.harness import report
from experiments.data.arrays import Data
from experiments.data.built_in import BUILT_IN
from experiments.data.readers import read
from experiments.gans.evaluation import METRICS
from experiments.gans.features import class_labels, feature_space
from experiments.gans.presets import PRESETS
from experiments.gans.samples import fixed_latents
from experiments.gans.scaling import scaled, shown
from experiments.reports.image_grid import COLUMNS, grid
from experiments.studies.harness import Job, run_all, spread
from gan.trained import TrainedGan
from univae.checkpoint import write_json

METHODS: dict[
    str, dict[str, Any]
] = {  # rates by a few runs of three minutes on MNIST, from another seed
    "gn": PRESETS["mnist"],
    "gn-cr": {**PRESETS["mnist"], "consistency": 5.0},
    "gran": {**PRESETS["mnist"], "normalization": "gran"},
    "gp": PRESETS["wgan-gp"],
    "sn": PRESETS["spectral"],
    "r1r2": PRESETS["relativistic"],
}
EVERY = 3000  # steps between validations, and between checkpoints
FEATURE_STEPS = 1000  # of training the classifier that all share


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """An evaluation of a run, and where what it found is kept."""

    run: Path
    out: Path
    count: int
    threads: int = 1
    resume: bool = False


def job(given: argparse.Namespace, method: str, seed: int, features: str) -> Job:
    """Training of one method from one seed."""
    out = given.out / f"{method}-seed{seed}"
    options = {
        "minutes": given.minutes,
        "clock": "processor",
        "threads": 1,
        "device": "cpu",
        "features": features,
    }
    options |= {"validate_every": EVERY, "checkpoint_every": EVERY}
    config = train_gan.Config.of(data=given.data, out=out, seed=seed, **METHODS[method] | options)
    return Job(out.name, train_gan.main, config)


def score(config: Scoring) -> None:
    """Fill the folder of a scoring with what ``evaluate-gan`` says."""
    config.out.mkdir(parents=True, exist_ok=True)
    found = evaluate_gan.main(
        evaluate_gan.Config(run=config.run, count=config.count, checkpoint="last", device="cpu"),
    )
    write_json(config.out / "DONE", found)


def space_of(data: Data, out: Path) -> str:
    """What ``train-gan --features`` takes so that all runs share one space.

    Its classifier is trained here, once.
    """
    if class_labels(data) is None:
        return "auto"
    feature_space(data, out / "features", steps=FEATURE_STEPS, threads=1)
    return str(out / "features")


def table(
    given: argparse.Namespace, trained: Mapping[str, Any], scored: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row for each method and kind of weights: every metric's mean and spread over the seeds that ended."""
    rows = []
    for method in given.methods:
        names = [f"{method}-seed{seed}" for seed in range(given.seeds)]
        ended = [name for name in names if name in scored and "failed" not in scored[name]]
        row: dict[str, Any] = {"method": method, "failed": len(names) - len(ended)}
        if not ended:
            rows.append(row)
            continue
        row["steps"] = spread(trained[name]["steps"] for name in ended)
        row["processor_minutes"] = spread(trained[name]["seconds"] / 60 for name in ended)
        for weights, found in (
            ("average", [scored[name] for name in ended]),
            ("raw", [scored[name]["raw"] for name in ended]),
        ):
            measured = {
                name: spread(f[name] for f in found) for name in METRICS if name in found[0]
            }
            rows.append(row | {"weights": weights} | measured)
    return rows


def ranking(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of moving averages, the smallest mean Fréchet distance first."""
    known = [row for row in rows if row.get("weights") == "average"]
    return sorted(known, key=lambda row: row["frechet_distance"]["mean"])


def verdict(rows: Sequence[Mapping[str, Any]], floor: float) -> str:
    """Names the winner, by how much it wins, and whether that is more than the seeds differ."""
    ranked = ranking(rows)
    if not ranked:
        return "No run ended."
    first, *others = ranked
    said = (
        f"{first['method']} has the smallest Fréchet distance, {_told(first)} (floor {floor:.3g})"
    )
    if not others:
        return f"{said}; it is the only method that ended."
    said += f", before {', '.join(row['method'] + ' ' + _told(row) for row in others)}. "
    gap = others[0]["frechet_distance"]["mean"] - first["frechet_distance"]["mean"]
    deviations = [row["frechet_distance"]["sd"] for row in (first, others[0])]
    if None in deviations:
        return said + "With one seed, the order may be the seed's."
    more = "more" if gap > 2 * max(deviations) else "not more"
    said += f"The lead of {gap:.2g} over {others[0]['method']} is {more} than twice the larger deviation over seeds"
    return f"{said} ({max(deviations):.2g})."


def _told(row: Mapping[str, Any]) -> str:
    found = row["frechet_distance"]
    return f"{found['mean']:.3g}" + (f" ± {found['sd']:.2g}" if found["sd"] is not None else "")


def mnist_bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was asked of the best method and of gn, what each reached, and whether that is met."""
    found = {row["method"]: row for row in ranking(rows)}
    if not found:
        return {}
    best = next(iter(found.values()))
    bars = {}
    for name, row, metric, bar in (
        ("best_frechet", best, "frechet_distance", 1.0),
        ("gn_frechet", found.get("gn"), "frechet_distance", 1.5),
        ("classes", best, "classes_found", 10),
        ("recall", best, "recall", 0.9),
        ("coverage", best, "coverage", 0.7),
    ):
        if row is None or metric not in row:
            continue
        value = row[metric]["mean"]
        bars[name] = {
            "bar": bar,
            "value": value,
            "met": value <= bar if "frechet" in metric else value >= bar,
        }
    return bars


def draw(given: argparse.Namespace, data: Data, names: Mapping[str, str]) -> Path:
    """Images of every method's first seed from the same latents, a row each, under a row of real ones."""
    from matplotlib.figure import Figure

    rows = np.random.default_rng(0).permutation(len(data))[:COLUMNS]
    strips: dict[str, Tensor] = {"real": scaled(data.batch(rows), data.levels)}
    for method, name in names.items():
        opened = TrainedGan.open(given.out / name, "cpu", "last")
        strips[method] = opened.generate(fixed_latents(opened.latent_width, COLUMNS))
    figure = Figure(figsize=(10, 0.72 * len(strips)), layout="constrained")
    for axes, (title, x) in zip(
        figure.subplots(len(strips), 1, squeeze=False)[:, 0], strips.items(), strict=True
    ):
        axes.imshow(grid(shown(x.float()), 256, COLUMNS), cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(title, rotation=0, ha="right", va="center")
    path: Path = given.out / "same_latents.png"
    figure.savefig(path, dpi=120)
    return path


def study(given: argparse.Namespace) -> dict[str, Any]:
    """Train, measures, compares; runs and measurements that are done stay."""
    data = read(given.data)
    given.out.mkdir(parents=True, exist_ok=True)
    features = space_of(data, given.out)
    jobs = [
        job(given, method, seed, features)
        for seed in range(given.seeds)
        for method in given.methods
    ]
    trained = run_all(jobs, given.jobs)
    ended = [job for job in jobs if "failed" not in trained[job.name]]
    scorings = [
        Job(
            j.name,
            score,
            Scoring(run=j.config.out, out=given.out / f"{j.name}-scored", count=given.count),
        )
        for j in ended
    ]
    scored = run_all(scorings, given.jobs) if scorings else {}
    rows = table(given, trained, scored)
    good = {name: found for name, found in scored.items() if "failed" not in found}
    result: dict[str, Any] = {"data": data.name, "minutes": given.minutes, "seeds": given.seeds}
    failed = {
        name: found["failed"] for name, found in {**trained, **scored}.items() if "failed" in found
    }
    if good:
        first = next(iter(good.values()))
        floor = spread(found["floor"]["frechet_distance"] for found in good.values())
        result |= {
            "feature_space": first["feature_space"],
            "count": first["count"],
            "floor_frechet": floor,
        }
        result["verdict"] = verdict(rows, floor["mean"])
        if data.name not in BUILT_IN:  # nothing was asked of those
            result["mnist_bars"] = mnist_bars(rows)
        result["ladder"] = {name: _kept(found) for name, found in first["ladder"].items()}
        # the first seed that ended
        shown_runs = {name.rpartition("-seed")[0]: name for name in reversed(good)}
        result["strip"] = str(
            draw(given, data, {m: shown_runs[m] for m in given.methods if m in shown_runs})
        )
    return result | {"failed": failed, "table": rows}


def _kept(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in METRICS if name in found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, help="images: a file, a folder, or digits, glyphs, stacked-glyphs"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; those that are done stay"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    parser.add_argument(
        "--methods", nargs="+", choices=tuple(METHODS), default=["gn", "gp", "sn", "r1r2"]
    )
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="of processor time, for each run"
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--count", type=int, default=5000, help="generated data to measure, at most half the real"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    report("wgan_images", study(given), given.results, kind="study")


if __name__ == "__main__":
    main()
