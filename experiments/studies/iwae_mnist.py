"""Likelihoods on MNIST: VAE and IWAE with one and two layers, compared with the published table.

The models, binarisation and batches are those of Burda et al. (2015): training pixels are drawn
black or white at every visit, test pixels once. NLL is minus the importance-sampled bound with
``--samples`` samples on all test images. By default every run has 60 minutes of processor time on
one thread, with a cosine schedule; ``--full`` is the published schedule of 3280 epochs, which takes
days. The arm ``neighbours`` is the preset of that name, whose pixels are conditioned on the pixels
before them, and ``neighbours-wide`` has twice the features of a larger neighbourhood, and averages
its weights; both are not in the paper.

``python -m experiments.studies.iwae_mnist --train train-images-idx3-ubyte.gz --test
t10k-images-idx3-ubyte.gz --out runs/iwae --results experiments/results/iwae_mnist.json``
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from density.trained import TrainedDensity
from experiments import likelihood, train_density
from experiments.benchmarks.harness import report
from experiments.data.readers import read
from experiments.evaluation.latent_model import codes
from experiments.images.presets import PRESETS
from experiments.images.run import fit_to
from experiments.studies.harness import Job, Results, run_all
from experiments.studies.reuse import bad_input_ends
from experiments.training.run_folder import Run
from univae.checkpoint import JsonObject, read_json, write_json

UNIT_IMAGES = 2000  # test images from which active units are counted
ACTIVE_VARIANCE = 0.01  # of the posterior mean of an active unit, as in the paper
HELD_OUT = 0.02  # fraction of the training images
TRAINING_IMAGES = 60_000
REPORTED = (
    "standard_error_nats",
    "standard_error_over_data_nats",
    "effective_samples_median",
    "khat_above_0.7",
    "samples",
    "count",
)


@dataclass(frozen=True)
class Published:
    """A row of Table 1 of the paper: NLL in nats, and the active units of each layer."""

    nll: float
    active_units: tuple[int, ...]


@dataclass(frozen=True)
class Arm:
    """A model of the study: a preset, and options that replace those of the preset."""

    preset: str
    options: JsonObject = field(default_factory=dict)
    published: Published | None = None


IWAE = {"objective": "iwae", "k": 50}
ARMS: Mapping[str, Arm] = {
    "vae-1": Arm("iwae-1", published=Published(86.76, (19,))),
    "iwae-1": Arm("iwae-1", IWAE, Published(84.78, (25,))),
    "vae-2": Arm("iwae-2", published=Published(85.33, (16, 5))),
    "iwae-2": Arm("iwae-2", IWAE, Published(82.90, (26, 7))),
    "neighbours": Arm("neighbours"),
    "neighbours-wide": Arm("neighbours", {"context": 32, "reach": 7, "ema": 0.999}),
}
BAR = 81.0  # nats on test, required of the best arm
PUBLISHED_ARMS = [name for name, arm in ARMS.items() if arm.published is not None]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Estimation of the test set's likelihood under a run."""

    run: Path
    out: Path
    test: str
    samples: int
    threads: int = 1
    resume: bool = False


def training_job(arguments: argparse.Namespace, name: str) -> Job:
    """Return the training of one arm.

    ``vae`` maximises the ELBO with one sample, ``iwae`` the bound with 50 samples.
    """
    arm = ARMS[name]
    options = {**PRESETS[arm.preset], **arm.options}
    if arm.published is None or not arguments.full:
        options |= {"minutes": arguments.minutes, "clock": "processor", "schedule": "cosine"}
    if arm.published is not None:
        options["warmup"] = 0.0
    config = train_density.Config.of(
        data=str(arguments.train),
        out=arguments.out / name,
        held_out=HELD_OUT,
        validate_every=6000,
        checkpoint_every=6000,
        threads=1,
        **options,
    )
    return Job(name, train_density.main, config)


def scoring_job(arguments: argparse.Namespace, name: str) -> Job:
    """Return the scoring of one arm."""
    run = arguments.out / name
    out = run.with_name(f"{name}-scored")
    config = Scoring(run=run, out=out, test=str(arguments.test), samples=arguments.samples)
    return Job(name, score, config)


def score(config: Scoring) -> None:
    """Write every test image's estimate, the totals and the active units into ``config.out``."""
    config.out.mkdir(parents=True, exist_ok=True)
    scores = config.out / "scores.csv"
    totals = likelihood.main(
        likelihood.Config(run=config.run, data=config.test, samples=config.samples, out=scores)
    )
    run = TrainedDensity.open(config.run)
    x = fit_to(run, read(config.test)).batch(slice(0, UNIT_IMAGES))
    write_json(config.out / "config.json", {"run": str(config.run)})
    write_json(config.out / "DONE", totals | {"units": active_units(run, x)})


@torch.no_grad()
def active_units(run: TrainedDensity, x: Tensor) -> list[int]:
    r"""Return the units of each layer with :math:`\mathrm{Var}_x\, \mathbb{E}[u \mid x] > 0.01`.

    The mean of a higher layer is computed from the means of the layer below.
    """
    means = codes(run.model, x).split(list(run.model.config["latents"]), -1)
    return [int((mean.var(0) > ACTIVE_VARIANCE).sum()) for mean in means]


def curve(folder: Path) -> list[tuple[float, float, float]]:
    """Return minutes, NLL and minus ELBO on held-out training images, at every validation."""
    points = []
    for row in Run.open(folder).rows("validation"):
        if row["elbo_nats"] is not None:
            points.append((row["seconds"] / 60, row["nll_nats"], -row["elbo_nats"]))
    return points


def table(arguments: argparse.Namespace, trained: Results, scored: Results) -> list[JsonObject]:
    """Return a row for each arm: its likelihood with diagnostics, and the published values."""
    rows = []
    for name in arguments.arms:
        arm = ARMS[name]
        totals = scored[name]
        images = trained[name]["steps"] * PRESETS[arm.preset]["batch_size"]
        row = {
            "arm": name,
            "nll_nats": -totals["log_likelihood_nats"],
            "published_nll_nats": arm.published.nll if arm.published else None,
            "active_units": totals["units"],
            "published_active_units": arm.published.active_units if arm.published else None,
            "minus_elbo_nats": -totals["elbo_nats"],
            **{key: totals[key] for key in REPORTED},
            "epochs": images / ((1 - HELD_OUT) * TRAINING_IMAGES),
            "processor_minutes": trained[name]["seconds"] / 60,
            "curve_minutes_nll_minus_elbo": curve(arguments.out / name),
        }
        rows.append(row)
    return rows


def markdown(rows: Sequence[JsonObject]) -> str:
    """Return the table of the arms in Markdown, the smallest NLL first."""
    lines = [
        "| arm | minutes | epochs | NLL, nats | samples | k-hat above 0.7 | minus ELBO "
        "| published |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["nll_nats"]):
        cells = [
            f"`{row['arm']}`",
            f"{row['processor_minutes']:.0f}",
            f"{row['epochs']:.0f}",
            f"{row['nll_nats']:.2f} ± {row['standard_error_over_data_nats']:.2f}",
            str(row["samples"]),
            f"{row['khat_above_0.7']:.1%}",
            f"{row['minus_elbo_nats']:.2f}",
            str(row["published_nll_nats"] or ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    best = min(row["nll_nats"] for row in rows)
    met = "met" if best <= BAR else f"missed by {best - BAR:.2f}"
    return "\n".join([*lines, "", f"The bar of {BAR:.1f} nats is {met}."])


def draw(rows: Sequence[JsonObject], path: Path) -> None:
    """Plot the NLL of held-out training images by time, with the published results as lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        minutes, nll, _ = zip(*row["curve_minutes_nll_minus_elbo"], strict=True)
        (line,) = axes.plot(minutes, nll, label=f"{row['arm']}: {row['nll_nats']:.2f} on test")
        if row["published_nll_nats"]:
            axes.axhline(row["published_nll_nats"], color=line.get_color(), linestyle=":")
    axes.set(xlabel="processor minutes", ylabel="held-out NLL, nats (64 samples)", ylim=(80, 105))
    title = "dotted: published, after 3280 epochs"
    is_published = any(row["published_nll_nats"] for row in rows)
    axes.legend(frameon=False, title=title if is_published else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--train", type=Path, required=True, help="the 60,000 training images, grey"
    )
    parser.add_argument("--test", type=Path, required=True, help="the 10,000 test images, grey")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the runs; finished runs are reused"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the table")
    parser.add_argument("--figure", type=Path, help="a PNG file; default: in --out")
    parser.add_argument("--arms", nargs="+", default=PUBLISHED_ARMS, choices=tuple(ARMS))
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="processor time of each run, in minutes"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="train for the published 3280 epochs instead of --minutes",
    )
    parser.add_argument(
        "--samples", type=int, default=5000, help="importance samples per test image"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, of one thread each")
    return parser.parse_args(argv)


def main() -> None:
    """Run the study with the options of the command line."""
    options = parse()
    run_all([training_job(options, name) for name in options.arms], options.jobs)
    trained = {name: read_json(options.out / name / "DONE") for name in options.arms}
    scored = run_all([scoring_job(options, name) for name in options.arms], options.jobs)
    rows = table(options, trained, scored)
    draw(rows, options.figure or options.out / "iwae_mnist.png")
    report("iwae_mnist", rows, options.results, kind="study")


if __name__ == "__main__":
    with bad_input_ends("iwae_mnist"):
        main()
