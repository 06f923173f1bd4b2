"""``univae demo``: the main job on built-in data, in a few minutes on two cores.

Its trainings have a number of steps, and time limits of about three times what these take on two
idle cores. A machine that is slower, or that other programs use, takes the same steps and the same
validations within the limits, and fewer beyond them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from experiments import (
    compress,
    decompress,
    evaluate_gan,
    likelihood,
    train_density,
    train_gan,
    train_text,
)
from experiments.cli.commands import run
from experiments.data.texts import BUILT_IN
from experiments.evaluation.archivers import xz_primed
from experiments.evaluation.open_run import open_run
from experiments.gans import presets as gan_presets
from experiments.gans.samples import fixed_latents, write_images
from experiments.images import presets as image_presets
from experiments.reports.demo_tables import (
    print_calibration,
    print_image_scores,
    print_samples,
    print_sizes,
    print_summary,
    print_text_scores,
)
from experiments.reports.page import write as write_report
from experiments.text import presets as text_presets
from experiments.text.samples import write_samples
from experiments.text.task import measure_texts
from experiments.training.distributed import join
from experiments.training.processes import process_count
from experiments.training.run_folder import Run
from experiments.training.settings import MINUTES, SEED, Settings
from experiments.training.task import reseed
from experiments.training.threads import THREADS, threads_of_run
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, above, at_least, check, reading
from univae.run_folder import RunFolder, stored_value
from univae.vae.trained import TrainedText

__all__ = ["Config", "generate_digits", "main", "round_trip", "score_digits", "score_texts"]

RESULTS = ()  # print_summary shows the result

# On two idle cores these take about 3 minutes, half a minute and a minute.
TEXT_STEPS = 1750  # of which a calibration has the last 15%
IMAGE_STEPS = 5000
GAN_STEPS = 3000

# Options that are time limits, with the runs that they limit: folders in that of the demo.
LIMITED = {"minutes": ".", "image_minutes": "digits", "gan_minutes": "gan"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a UniVAE on Python's documentation, a VAE and a WGAN-GN on digits; score, compress."""

    out: Path = Path("runs/demo")  # run folder to write; a new or empty folder
    minutes: float = 9.0  # most minutes of training on texts, for 1,750 steps
    image_minutes: float = 1.2  # most minutes of training the VAE on digits, for 5,000 steps
    gan_minutes: float = 2.4  # most minutes of training the WGAN-GN on digits, for 3,000 steps
    samples: int = 64  # importance samples per held-out text; more tighten its likelihood
    image_samples: int = 256  # importance samples per held-out digit
    seed: int = 0  # seed of the initial weights, the order of the data and all noise
    # processor threads; 0: the free cores of this machine, or as the run was started (univae doctor
    # shows the number)
    threads: int = 0
    resume: bool = False  # continue an interrupted demo in --out, or start it in a new folder

    RULES: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(("minutes", "image_minutes", "gan_minutes"), above(0, MINUTES)),
        "samples": at_least(1, 10**8),
        "image_samples": at_least(1, 10**8),
        "seed": SEED,
        "threads": THREADS,
    }

    def __post_init__(self) -> None:
        check(self)

    @staticmethod
    def resumed_options(out: Path) -> JsonObject:
        """Return the options of an interrupted demo, which the runs inside it hold.

        Raises:
            InputError: the configuration of such a run is damaged.
        """
        values: JsonObject = {}
        for option, folder in LIMITED.items():
            if not (out / folder / "config.json").exists():
                continue
            with reading(out / folder / "config.json"):
                run_of_demo = RunFolder.open(out / folder)
                values["seed"] = stored_value(run_of_demo, Settings, "seed")
                limit = stored_value(run_of_demo, Settings, "time_limit")
            if limit:
                values[option] = limit
        return values


def main(config: Config) -> JsonObject:
    """Train, score and compress held-out texts and digits, generate digits, write the reports.

    Tables of the results are printed on stderr, and at the end a summary of them.
    """
    if process_count() > 1:
        raise InputError("the demo trains and scores in one process; start it without torchrun")
    start = time.perf_counter()
    resumed = config.out if config.resume else None
    with join("auto") as world, threads_of_run(config.threads, resumed, world):
        texts = score_texts(config)
        images = score_digits(config)
        generated = generate_digits(config)
    page = write_report(config.out)
    seconds = round(time.perf_counter() - start, 1)
    result = {
        "run": str(config.out),
        "report": str(page),
        "seconds": seconds,
        **texts,
        "images": images,
        "gan": generated,
    }
    print_summary(result)
    return result


def score_texts(config: Config) -> JsonObject:
    """Train a UniVAE on Python's documentation; score and compress the held-out texts."""
    training = train_text.Config.of(
        text=BUILT_IN,
        out=config.out,
        steps=TEXT_STEPS,
        time_limit=config.minutes,
        seed=config.seed,
        threads=config.threads,
        resume=config.resume,
        calibration=0.15,
        fit="model",
        **text_presets.PRESETS["tiny"],
    )
    trained_result = train_text.train(training)
    trained = open_run(TrainedText, config.out)
    lines = config.out / "held_out.txt"
    held_out, others = train_text.write_held_out(training, lines)
    reseed(config.seed, "demo")
    scores = measure_texts(trained.model, trained.token_ids(held_out), config.samples)
    print_text_scores(scores)
    calibration = trained_result.get("calibration")
    if calibration is not None:
        print_calibration(calibration)
    print_samples(write_samples(trained, held_out, config.seed))

    files = round_trip(
        config.out, lines, config.out / "held_out.bits", config.out / "read_back.txt"
    )
    primed = xz_primed(lines.read_bytes(), others.encode())
    files["archivers"]["xz that has read the training text"] = primed
    print_sizes("held-out texts", files, "bits_per_char")
    return {**scores, "calibration": calibration, "files": files}


def score_digits(config: Config) -> JsonObject:
    """Train a VAE on black and white digits, in a run inside the demo's; score held-out digits."""
    training = train_density.Config.of(
        data="digits",
        **_inner_run(config, "digits", config.image_minutes),
        **image_presets.PRESETS["tiny"],
        steps=IMAGE_STEPS,
    )
    train_density.main(training)
    held_out = training.out / "held_out.npy"
    np.save(held_out, train_density.held_out_data(training).numpy().astype(np.uint8))
    scoring = likelihood.Config(
        run=training.out,
        data=str(held_out),
        samples=config.image_samples,
        proposal="sobol",
        out=training.out / "samples" / "scores.csv",
        overwrite=True,
        seed=config.seed,
    )
    scores = likelihood.main(scoring)
    print_image_scores(scores)
    files = round_trip(
        training.out, held_out, training.out / "held_out.bits", training.out / "read_back.npy"
    )
    print_sizes("held-out digits", files, "bits_per_dim")
    return {**scores, "files": files}


def generate_digits(config: Config) -> JsonObject:
    """Train a WGAN-GN on digits, in a run inside the demo's; add its images to both reports."""
    preset = {**gan_presets.PRESETS["tiny"], "steps": GAN_STEPS}
    training = train_gan.Config.of(
        data="digits", **_inner_run(config, "gan", config.gan_minutes), **preset
    )
    train_gan.main(training)
    metrics = evaluate_gan.main(evaluate_gan.Config(run=training.out, seed=config.seed))
    trained = open_run(TrainedGan, training.out)
    images = trained.generate(fixed_latents(trained.latent_width))
    title = "Digits generated by the WGAN-GN of this demo"
    write_images(Run.open(config.out), "gan", title, images)
    return metrics


def _inner_run(config: Config, name: str, minutes: float) -> JsonObject:
    """Return the options of a run inside the demo's, which is resumed if it was started."""
    out = config.out / name
    resume = config.resume and (out / "config.json").exists()
    return {
        "out": out,
        "time_limit": minutes,
        "seed": config.seed,
        "threads": config.threads,
        "resume": resume,
    }


def round_trip(run: Path, data: Path, compressed: Path, restored: Path) -> JsonObject:
    """Compress a file by a run's model, and restore it.

    Returns:
        the result of ``univae compress``, and the seconds of compressing and restoring.

    Raises:
        RuntimeError: the restored file differs.
    """
    start = time.perf_counter()
    packing = compress.Config(run=run, data=str(data), out=compressed, verify=False, overwrite=True)
    sizes = compress.main(packing)
    compressed_at = time.perf_counter()
    decompress.main(decompress.Config(run=run, data=compressed, out=restored, overwrite=True))
    if restored.read_bytes() != data.read_bytes():
        raise RuntimeError(f"demo: {restored} differs from {data}")
    seconds_in = time.perf_counter() - compressed_at
    return {**sizes, "seconds_out": compressed_at - start, "seconds_in": seconds_in}


if __name__ == "__main__":
    run(Config, main)
