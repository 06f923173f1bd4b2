"""Likelihoods on MNIST: VAE and IWAE with one and two layers beside the published table, and the best model here.

The models, binarisation and batches of Burda et al. (2015): pixels drawn black or white at every
visit, the test set once; NLL is minus the importance-sampled bound with ``--samples`` samples on
all test images. By default every run has 30 minutes of two cores, counted as 60 minutes of
processor time on one thread, along a cosine; ``--full`` is the published schedule of 3280 epochs,
which takes days. The arm ``neighbours`` is the preset of that name, whose pixels also see those
before them: no model of the paper.

``python -m experiments.studies.iwae_mnist --train train-images-idx3-ubyte.gz --test
t10k-images-idx3-ubyte.gz --out runs/iwae --results experiments/results/iwae_mnist.json``
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from density.trained import TrainedDensity
from experiments import likelihood, train_density
from experiments.benchmarks.harness import report
from experiments.data.readers import read
from experiments.evaluation.latent_model import codes
from experiments.images.presets import PRESETS
from experiments.images.run import fit_to
from experiments.studies.harness import Job, run_all
from experiments.training.run_folder import Run
from univae.checkpoint import read_json, write_json

# Table 1 of the paper: NLL, and active units of each layer.
PUBLISHED: dict[str, tuple[float, tuple[int, ...]]] = {
    "vae-1": (86.76, (19,)),
    "iwae-1": (84.78, (25,)),
    "vae-2": (85.33, (16, 5)),
    "iwae-2": (82.90, (26, 7)),
}
ARMS = (*PUBLISHED, "neighbours")
USED = 2000  # test images from which active units are counted


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A run's likelihood of the test set."""

    run: Path
    out: Path
    test: str
    samples: int
    threads: int = 1
    resume: bool = False


def job(given: argparse.Namespace, arm: str) -> Job:
    """Training of one arm: ``vae`` maximises the ELBO with one sample, ``iwae`` the bound of 50."""
    options = preset(arm)
    if arm.startswith("iwae"):
        options |= {"objective": "iwae", "k": 50}
    if not (given.full and arm in PUBLISHED):
        options |= {"minutes": given.minutes, "clock": "processor", "schedule": "cosine"}
    if arm in PUBLISHED:
        options["warmup"] = 0.0
    config = train_density.Config.of(
        data=str(given.train),
        out=given.out / arm,
        held_out=0.02,
        validate_every=6000,
        checkpoint_every=6000,
        threads=1,
        **options,
    )
    return Job(arm, train_density.main, config)


def preset(arm: str) -> dict[str, Any]:
    """The options of an arm, before its budget."""
    return dict(PRESETS[arm if arm in PRESETS else f"iwae-{arm[-1]}"])


def scoring(given: argparse.Namespace, arm: str) -> Scoring:
    """What scores an arm."""
    run = given.out / arm
    return Scoring(
        run=run, out=run.with_name(f"{arm}-scored"), test=str(given.test), samples=given.samples
    )


def score(config: Scoring) -> None:
    """Fill the folder of a scoring: every test image's estimate, the totals, and the active units."""
    config.out.mkdir(parents=True, exist_ok=True)
    found = likelihood.main(
        likelihood.Config(
            run=config.run, data=config.test, samples=config.samples, out=config.out / "scores.csv"
        )
    )
    opened = TrainedDensity.open(config.run)
    x = fit_to(opened, read(config.test)).batch(slice(0, USED))
    write_json(config.out / "config.json", {"run": str(config.run)})
    write_json(config.out / "DONE", found | {"units": units(opened, x)})


@torch.no_grad()
def units(opened: TrainedDensity, x: torch.Tensor) -> list[int]:
    r"""Units of each layer with :math:`\mathrm{Var}_x\, \mathbb{E}[u \mid x] > 0.01`, the source's active ones.

    The mean of a higher layer is that of its law given the means below it.
    """
    means = codes(opened.model, x).split(list(opened.model.config["latents"]), -1)
    return [int((mean.var(0) > 0.01).sum()) for mean in means]


def curve(folder: Path) -> list[tuple[float, float, float]]:
    """Minutes, NLL and minus ELBO on held-out training images, at every validation."""
    rows = Run.open(folder).rows("validation")
    return [
        (row["seconds"] / 60, row["nll_nats"], -row["elbo_nats"])
        for row in rows
        if row["elbo_nats"] is not None
    ]


def table(
    given: argparse.Namespace, trained: Mapping[str, Any], scored: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One row an arm: this budget's likelihood with its evidence beside the published numbers."""
    rows = []
    for arm in given.arms:
        found = scored[arm]
        published = PUBLISHED.get(arm, (None, None))
        batch = preset(arm)["batch_size"]
        rows.append(
            {
                "arm": arm,
                "nll_nats": -found["log_likelihood_nats"],
                "published_nll_nats": published[0],
                "active_units": found["units"],
                "published_active_units": published[1],
                "minus_elbo_nats": -found["elbo_nats"],
                **{name: found[name] for name in SHOWN},
                "epochs": trained[arm]["steps"] * batch / (0.98 * 60_000),
                "processor_minutes": trained[arm]["seconds"] / 60,
                "curve_minutes_nll_minus_elbo": curve(given.out / arm),
            }
        )
    return rows


SHOWN = ("standard_error_nats", "effective_samples_median", "khat_above_0.7", "samples", "count")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """NLL of held-out training images by time, and the published results as levels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        minutes, nll, _ = zip(*row["curve_minutes_nll_minus_elbo"], strict=True)
        (line,) = axes.plot(minutes, nll, label=f"{row['arm']}: {row['nll_nats']:.2f} on test")
        if row["published_nll_nats"]:
            axes.axhline(row["published_nll_nats"], color=line.get_color(), linestyle=":")
    axes.set(xlabel="processor minutes", ylabel="held-out NLL, nats (64 samples)", ylim=(80, 105))
    axes.legend(frameon=False, title="dotted: published, after 3280 epochs")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--train", type=Path, required=True, help="the 60,000 training images, grey"
    )
    parser.add_argument("--test", type=Path, required=True, help="the 10,000 test images, grey")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; those that are done stay"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    parser.add_argument("--arms", nargs="+", default=list(PUBLISHED), choices=ARMS)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="of processor time, for each run"
    )
    parser.add_argument("--full", action="store_true", help="the published 3280 epochs instead")
    parser.add_argument(
        "--samples", type=int, default=5000, help="importance samples per test image"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    given = parser.parse_args()
    trained = run_all([job(given, arm) for arm in given.arms], given.jobs)
    scorings = [Job(arm, score, scoring(given, arm)) for arm in given.arms]
    rows = table(
        given,
        {arm: read_json(given.out / arm / "DONE") for arm in trained},
        run_all(scorings, given.jobs),
    )
    draw(rows, given.out / "iwae_mnist.png")
    report("iwae_mnist", rows, given.results, kind="study")


if __name__ == "__main__":
    main()
