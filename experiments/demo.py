"""``univae demo``: the main job on built-in data, in a few minutes on two cores."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
from experiments.reports.page import write as write_report
from experiments.text import presets
from experiments.text.samples import write_samples
from experiments.text.task import measure_texts
from experiments.training.run_folder import Run
from experiments.training.settings import MINUTES, SEED, THREADS
from experiments.training.task import reseed
from gan.trained import TrainedGan
from univae.errors import InputError
from univae.rules import Rule, above, at_least, check
from univae.vae.trained import TrainedText

__all__ = ["Config", "gan", "images", "main", "packed"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Trains a UniVAE on Python's documentation, a VAE and a WGAN-GN on digits.

    Scores and compresses held-out data.
    """

    out: Path = Path("runs/demo")  # the run folder
    minutes: float = 3.0  # of training on texts
    image_minutes: float = 0.4  # of training the VAE on digits
    gan_minutes: float = 0.8  # of training the WGAN-GN on digits
    samples: int = 64  # importance samples per held-out text
    image_samples: int = 256  # the same per held-out digit
    seed: int = 0
    threads: int = 0  # processor threads; 0: PyTorch's choice
    resume: bool = False  # continue an interrupted demo

    RULES: ClassVar[Mapping[str, Rule]] = {
        **dict.fromkeys(("minutes", "image_minutes", "gan_minutes"), above(0, MINUTES)),
        "samples": at_least(1, 10**8),
        "image_samples": at_least(1, 10**8),
        "seed": SEED,
        "threads": THREADS,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Train, scores, compresses held-out texts and digits, generates.

    Writes the reports; human words go to stderr.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("the demo trains and scores in one process; start it without torchrun")
    began = time.perf_counter()
    trained = train_text.Config(
        text=BUILT_IN,
        out=config.out,
        minutes=config.minutes,
        seed=config.seed,
        threads=config.threads,
        resume=config.resume,
        **presets.PRESETS["tiny"],
    )
    train_text.train(trained)
    opened = open_run(TrainedText, config.out)
    lines = config.out / "held_out.txt"
    held_out, read = train_text.write_held_out(trained, lines)
    reseed(config.seed, "demo")
    found = measure_texts(opened.model, opened.token_ids(held_out), config.samples)
    _tell(found, write_samples(opened, held_out, config.seed))
    files = packed(config.out, lines, config.out / "held_out.bits", config.out / "read_back.txt")
    files["archivers"]["xz that has read the training text"] = xz_primed(
        lines.read_bytes(), read.encode()
    )
    _tell_files("held-out texts", files, "bits_per_char")
    pictures = images(config)
    generated = gan(config)
    page = write_report(config.out)
    print(f"\nreport: {page}", file=sys.stderr)

    seconds = round(time.perf_counter() - began, 1)
    return {
        "run": str(config.out),
        "report": str(page),
        "seconds": seconds,
        **found,
        "files": files,
        "images": pictures,
        "gan": generated,
    }


def images(config: Config) -> dict[str, Any]:
    """Train a VAE on digits drawn black or white, in a run of its own, and scores those held out."""
    trained = train_density.Config(
        data="digits",
        **_part(config, "digits", config.image_minutes),
        **image_presets.PRESETS["tiny"],
    )
    train_density.main(trained)
    held_out = trained.out / "held_out.npy"
    np.save(held_out, train_density.held_out_data(trained).numpy().astype(np.uint8))
    found = likelihood.main(
        likelihood.Config(
            run=trained.out,
            data=str(held_out),
            samples=config.image_samples,
            proposal="sobol",
            out=trained.out / "samples" / "scores.csv",
            overwrite=True,
            seed=config.seed,
        )
    )
    lines = [
        f"\nheld-out digits ({found['count']}, {found['samples']} importance samples each), nats per image:",
        f"  negative log-likelihood  {-found['log_likelihood_nats']:8.2f}"
        f" ± {found['standard_error_over_data_nats']:.2f} over images ({found['bits_per_dim']:.3f} bits per pixel)",
        f"  {found['effective_samples_median']:.0f} effective samples at the median; k-hat is above"
        f" {found['khat_threshold']:.2f} for {found['khat_unreliable']:.0%} of the images",
    ]
    print("\n".join(lines), file=sys.stderr)
    files = packed(
        trained.out, held_out, trained.out / "held_out.bits", trained.out / "read_back.npy"
    )
    _tell_files("held-out digits", files, "bits_per_dim")
    return found | {"files": files}


def gan(config: Config) -> dict[str, Any]:
    """Train a WGAN-GN on digits, in a run of its own; its grid goes into the demo's report too."""
    trained = train_gan.Config(
        data="digits",
        **_part(config, "gan", config.gan_minutes),
        **{name: value for name, value in gan_presets.PRESETS["tiny"].items() if name != "steps"},
    )
    train_gan.main(trained)
    found = evaluate_gan.main(evaluate_gan.Config(run=trained.out, seed=config.seed))
    opened = open_run(TrainedGan, trained.out)
    made = opened.generate(fixed_latents(opened.latent_width))
    write_images(Run.open(config.out), "gan", "Digits generated by the WGAN-GN of this demo", made)
    return found


def _part(config: Config, name: str, minutes: float) -> dict[str, Any]:
    """What training a run inside the demo's takes over from it.

    It may not have begun where the demo is resumed.
    """
    out = config.out / name
    resume = config.resume and (out / "config.json").exists()
    return {
        "out": out,
        "minutes": minutes,
        "seed": config.seed,
        "threads": config.threads,
        "resume": resume,
    }


def packed(run: Path, data: Path, out: Path, again: Path) -> dict[str, Any]:
    """Compress a file by a run's model, reads it back, and says what both took.

    Raises:
        RuntimeError: the file that came back is another.
    """
    began = time.perf_counter()
    found = compress.main(
        compress.Config(run=run, data=str(data), out=out, verify=False, overwrite=True)
    )
    written = time.perf_counter()
    decompress.main(decompress.Config(run=run, data=out, out=again, overwrite=True))
    if again.read_bytes() != data.read_bytes():
        raise RuntimeError(f"demo: {again} is not {data}")
    return found | {"seconds_out": written - began, "seconds_in": time.perf_counter() - written}


def _tell_files(what: str, files: Mapping[str, Any], unit: str) -> None:
    per = 1 / (8 * files["bytes_out"]) * files[unit]
    lines = [
        f"\n{what} as a file, read back to the last byte ({files['seconds_out']:.0f} s to write, bounds included,"
        f" {files['seconds_in']:.0f} s to read); {unit.replace('_', ' ')}:",
        f"  {files[unit]:6.3f}  this model: {files['bytes_out']} bytes, of which {files['initial_bits'] // 8} for the"
        f" first {files['plain']} data, written without it",
        f"  {files['ideal_bits'] * per:6.3f}  what its bound says (negative ELBO)",
        *(f"  {8 * size * per:6.3f}  {name}" for name, size in files["archivers"].items()),
    ]
    print("\n".join(lines), file=sys.stderr)


def _tell(found: Mapping[str, Any], shown: Mapping[str, Mapping[str, Any]]) -> None:
    layers = " + ".join(f"{nats:.2f}" for nats in found["kl_nats"])
    lines = [
        f"\nheld-out texts ({found['data']}, {found['samples']} importance samples each), nats per text:",
        f"  negative log-likelihood  {found['nll_nats']:8.2f} ± {found['nll_standard_error']:.2f} over texts,"
        f" ± {found['nll_monte_carlo_error']:.2f} by sampling ({found['bits_per_token']:.3f} bits per token)",
        f"  {found['effective_samples_median']:.1f} effective samples at the median; k-hat is above"
        f" {found['khat_threshold']:.2f} for {found['khat_unreliable']:.0%} of the texts: for them the estimate is no"
        " more than a better bound",
        f"  negative bound (ELBO)    {-found['elbo_nats']:8.2f} = {found['reconstruction_nats']:.2f} reconstruction"
        f" + KL {layers}",
        f"  {found['verdict']}; {found['active_units']} of {found['units']} units active",
    ]
    for item in shown.values():
        if item["kind"] == "texts":
            lines += ["", item["title"], *("  " + " | ".join(row) for row in item["rows"])]
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    run(Config, main)
