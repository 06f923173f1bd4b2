"""``univae sample``: texts, images or rows of a table that a trained model generates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro
from torch import Tensor

from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.array_outputs import (
    TEXTS,
    Contents,
    result_file,
    write_result,
)
from experiments.data.notes import with_notes
from experiments.evaluation.open_run import open_run
from experiments.gans import samples as gan_samples
from experiments.gans.units import units_of
from experiments.images.row_outputs import contents_of, output_of
from experiments.kinds import Use, use_of
from experiments.training.settings import SEED
from experiments.training.task import reseed
from gan.trained import TrainedGan
from gan.truncation import SMALLEST
from univae.checkpoint import JsonObject
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.rules import COUNT, Rule, at_least, check
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["SAMPLERS", "Config", "main"]

EVERY_CLASS = -1  # of --label
LARGEST_TRUNCATION = 100.0  # of --truncation; no latent's number is beyond


def _label_rule(label: int | str) -> str:
    """Return the rule of a class number; a name is compared with those of the run."""
    if isinstance(label, str):
        return ""
    return at_least(EVERY_CLASS, COUNT, "-1 (every class in turn) or more")(label)


def _truncation_rule(truncation: float) -> str:
    """Return the rule of a threshold of latents."""
    if truncation == 0:
        return ""
    return at_least(SMALLEST, LARGEST_TRUNCATION, f"0 (off), or at least {SMALLEST}")(truncation)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draws samples from a trained model: texts, images, or rows of a table."""

    run: tyro.conf.Positional[Path]  # the run folder
    count: int = 10  # number of texts, images or rows
    # output file; texts: .txt, .csv, .jsonl, .parquet; images: .npz or .npy, with a .png beside, or
    # .png; rows: .csv, .jsonl, .parquet, .npz, .npy; default of images and rows: in the run folder
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    # for texts: 1 samples from the model; lower: more probable texts; 0: the most probable token
    temperature: float = 1.0
    top_k: int = 0  # for texts: sample among the k most probable tokens; 0: all
    top_p: float = 1.0  # for texts: sample among the fewest tokens of this total probability
    raw: bool = False  # for a GAN: use the weights of the last step, not their moving average
    # for a GAN: draw numbers of a latent beyond this value again; lower: more usual samples, less
    # variety; 0: off
    truncation: float = 0.0
    # for a conditional GAN: class of all samples, a name or a number; -1: each in turn
    label: int | str = EVERY_CLASS
    checkpoint: str = "best"  # best (weights of the best validation) or last
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**8),
        **Sampling.RULES,
        "truncation": _truncation_rule,
        "label": _label_rule,
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Draw samples.

    Returns:
        of a text VAE ``samples``, which are also written to ``--out``; of images and rows the path
        ``file``, and of images that of their ``picture``.
    """
    return use_of(config, SAMPLERS, "sample").act(config)


def _sample_texts(config: Config) -> JsonObject:
    out = None
    if config.out is not None:
        out = result_file(config.out, TEXTS, (config.run,), overwrite=config.overwrite)
    run = open_run(TrainedText, config.run, config.device, config.checkpoint)
    reseed(config.seed, "sample")
    sampling = Sampling(config.temperature, config.top_k, config.top_p)
    texts = run.sample(config.count, sampling)

    result: JsonObject = {"run": str(config.run), "count": len(texts), "samples": texts}
    if out is not None:
        result |= write_result(out, Contents(texts=texts, columns={"text": texts}))
    return with_notes(result, run.notes)


def _sample_rows(config: Config) -> JsonObject:
    run = open_run(TrainedDensity, config.run, config.device, config.checkpoint)
    out = output_of(run, config.out, f"drawn_{config.seed}", overwrite=config.overwrite)
    reseed(config.seed, "sample")
    rows = run.from_model(run.draw(config.count))
    files = write_result(out, contents_of(run, rows))
    result = {"run": str(config.run), "count": config.count, **files}
    return with_notes(result, run.notes)


def _sample_gan(config: Config) -> JsonObject:
    run = open_run(TrainedGan, config.run, config.device, config.checkpoint)
    if config.raw:
        run = run.raw()
    data = units_of(run)
    name = f"drawn_{config.seed}"
    out = gan_samples.output_of(run, data, config.out, name, overwrite=config.overwrite)
    labels = _labels(config, run)
    reseed(config.seed, "sample")
    rows = run.draw(config.count, labels, config.truncation or None)
    result: JsonObject = {
        "run": str(config.run),
        "step": run.step,
        "count": config.count,
        **write_result(out, gan_samples.contents_of(data, rows, labels)),
        "average": run.has_average and not config.raw,
    }
    return with_notes(result, run.notes)


def _labels(config: Config, run: TrainedGan) -> Tensor | None:
    """Return the class of each row; None for a GAN without classes."""
    if not run.classes:
        if config.label == EVERY_CLASS:
            return None
        raise InputError(
            "sample: label must be left out, because this GAN has no classes; "
            f"got label={config.label}"
        )
    label = _class_number(config, run)
    if label != EVERY_CLASS and not 0 <= label < run.classes:
        raise InputError(
            f"sample: label must lie in 0..{run.classes - 1}; got label={config.label}"
        )
    rows = torch.arange(config.count)
    if label == EVERY_CLASS:
        return rows % run.classes
    return torch.full_like(rows, label)


def _class_number(config: Config, run: TrainedGan) -> int:
    """Return the number of the class that ``--label`` gives by name or by number.

    A number is a name where a class has it: of the classes 1, 2 and 3 of an image folder, 1 is the
    first.
    """
    names = run.folder.data_record().get("data", {}).get("class_names") or []
    if str(config.label) in names:
        return int(names.index(str(config.label)))
    if isinstance(config.label, int):
        return config.label
    known = f"one of {', '.join(names)}, or a number" if names else "a number"
    raise InputError(f"sample: label must be {known}; got label={config.label}")


SAMPLERS: Mapping[type[Trained], Use[Any]] = {
    TrainedGan: Use(TrainedGan, ("raw", "truncation", "label"), _sample_gan),
    TrainedDensity: Use(TrainedDensity, (), _sample_rows),
    TrainedText: Use(TrainedText, ("temperature", "top_k", "top_p"), _sample_texts),
}


if __name__ == "__main__":
    run(Config, main)
