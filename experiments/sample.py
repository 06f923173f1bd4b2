"""``univae sample``: texts from the prior of a text VAE, images or rows of a table from a GAN."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import tyro
from torch import Tensor

from experiments.cli.commands import run
from experiments.data.notes import with_notes
from experiments.data.numpy_files import write_npz
from experiments.data.outputs import Output, output_file
from experiments.evaluation.open_run import open_run
from experiments.gans.scaling import to_data_units, to_grey_levels
from experiments.gans.units import units_of
from experiments.kinds import row_of_kind
from experiments.reports.image_grid import png
from experiments.training.settings import SEED
from experiments.training.task import reseed
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.rules import COUNT, Rule, at_least, check
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["Config", "main"]

LEVELS = 256  # grey levels of a picture
ARCHIVE = ".npz"  # suffix of a GAN's samples
EVERY_CLASS = -1  # of --label


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draws samples from a trained model: texts from a text VAE, images or rows from a GAN."""

    run: tyro.conf.Positional[Path]  # the run folder
    count: int = 10  # number of texts, images or rows
    # output file: for texts, one a line; for a GAN an .npz, and of images a .png beside it; default
    # for a GAN: in the run folder
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    # for texts: 1 samples from the model; lower: more probable texts; 0: the most probable token
    temperature: float = 1.0
    top_k: int = 0  # for texts: sample among the k most probable tokens; 0: all
    top_p: float = 1.0  # for texts: sample among the fewest tokens of this total probability
    raw: bool = False  # for a GAN: use the weights of the last step, not their moving average
    label: int = EVERY_CLASS  # for a conditional GAN: class of all samples; -1: each in turn
    checkpoint: str = "best"  # best (weights of the best validation) or last
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**8),
        **Sampling.RULES,
        "label": at_least(-1, COUNT, "-1 (every class in turn) or more"),
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Sampler:
    """A row of :data:`SAMPLERS`."""

    trained: type[Trained]
    options: tuple[str, ...]  # options that only this kind of run uses
    sample: Callable[[Config], JsonObject]


def main(config: Config) -> JsonObject:
    """Draw samples.

    Returns:
        of a text VAE ``samples``, which are also written to ``--out``; of a GAN the paths ``file``
        and ``picture``.
    """
    sampler = row_of_kind(config.run, SAMPLERS)
    _refuse_unused_options(config, sampler)
    return sampler.sample(config)


def _refuse_unused_options(config: Config, sampler: Sampler) -> None:
    """Raise InputError for an option that only another kind of run uses."""
    for other in SAMPLERS.values():
        if other is sampler:
            continue
        for name in other.options:
            value = getattr(config, name)
            if value != getattr(Config, name):
                raise InputError(
                    f"sample: {name} is an option for {other.trained.description}, and "
                    f"{config.run} is the run of {sampler.trained.description}; "
                    f"got {name}={value}; drop it"
                )


def _sample_texts(config: Config) -> JsonObject:
    out = output_file(config.out, config.overwrite, (config.run,))
    run = open_run(TrainedText, config.run, config.device, config.checkpoint)
    reseed(config.seed, "sample")
    sampling = Sampling(config.temperature, config.top_k, config.top_p)
    texts = run.sample(config.count, sampling)
    if out is not None:
        # one text a line: a line end that a byte-level model generated becomes a space
        lines = [" ".join(text.split("\n")) for text in texts]
        out.write_text("".join(f"{line}\n" for line in lines))

    result = {"run": str(config.run), "count": len(texts), "samples": texts}
    return with_notes(result, run.notes)


def _sample_gan(config: Config) -> JsonObject:
    out = _gan_output(config)
    run = open_run(TrainedGan, config.run, config.device, config.checkpoint)
    if config.raw:
        run = run.raw()
    labels = _labels(config, run.classes)
    data = units_of(run)
    is_image = data.is_images
    picture = out.beside(".png")
    if is_image:
        picture.check_file()

    reseed(config.seed, "sample")
    rows = run.draw(config.count, labels)
    _write_rows(out, "images" if is_image else "x", to_data_units(rows, data), labels)
    result: JsonObject = {
        "run": str(config.run),
        "step": run.step,
        "count": config.count,
        "file": str(out.path),
        "average": run.has_average and not config.raw,
    }
    if is_image:
        picture.write_bytes(png(to_grey_levels(rows), LEVELS))
        result["picture"] = str(picture.path)
    return with_notes(result, run.notes)


def _gan_output(config: Config) -> Output:
    """Return the .npz file; by default one in the run folder, which may be replaced."""
    path = config.out or config.run / "samples" / f"drawn_{config.seed}{ARCHIVE}"
    if path.suffix != ARCHIVE:
        raise InputError(f"sample: a GAN needs an --out that ends in .npz; got {path}")
    overwrite = config.overwrite or config.out is None
    return Output(path, overwrite, (config.run,)).check_file()


def _write_rows(out: Output, name: str, rows: np.ndarray, labels: Tensor | None) -> None:
    """Write rows in the units of the data (grey levels as whole numbers), and their labels."""
    arrays = {name: rows}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    with out.file() as temporary, temporary.open("wb") as file:
        write_npz(file, arrays)


def _labels(config: Config, classes: int) -> Tensor | None:
    """Return the class of each row; None for a GAN without classes."""
    if config.label != EVERY_CLASS and not 0 <= config.label < classes:
        rule = "be left out, because this GAN has no classes"
        if classes:
            rule = f"lie in 0..{classes - 1}"
        raise InputError(f"sample: label must {rule}; got label={config.label}")
    if not classes:
        return None
    rows = torch.arange(config.count)
    if config.label == EVERY_CLASS:
        return rows % classes
    return torch.full_like(rows, config.label)


SAMPLERS: Mapping[type[Trained], Sampler] = {
    TrainedGan: Sampler(TrainedGan, ("raw", "label"), _sample_gan),
    TrainedText: Sampler(TrainedText, ("temperature", "top_k", "top_p"), _sample_texts),
}


if __name__ == "__main__":
    run(Config, main)
