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
EVERY_CLASS = -1  # of --label


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draws from a trained model: texts, or of a GAN images or rows of a table."""

    run: tyro.conf.Positional[Path]  # the run folder
    count: int = 10  # number of texts, images or rows
    # of texts: a file, one a line; of a GAN: an .npz (and a .png of images), else in the run
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    # of texts: 1 draws from the model itself, 0 takes the most probable token each time
    temperature: float = 1.0
    top_k: int = 0  # of texts: only the k most probable tokens; 0: all
    top_p: float = 1.0  # of texts: only the smallest set of tokens with so much probability
    raw: bool = False  # of a GAN: the weights of the last step, not their moving average
    label: int = EVERY_CLASS  # of a conditional GAN: the class of all; -1: every class in turn
    checkpoint: str = "best"  # the weights of the best validation, or last
    seed: int = 0  # of the random draws
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
    """How a kind of run is sampled."""

    trained: type[Trained]
    options: tuple[str, ...]  # those that no other kind has a use for
    sample: Callable[[Config], JsonObject]


def main(config: Config) -> JsonObject:
    """Return ``samples`` of texts and write them to ``out``, if it is given.

    Of a GAN, return the ``file`` and the ``picture`` that were written.
    """
    sampler = row_of_kind(config.run, SAMPLERS)
    _refuse_options_of_others(config, sampler)
    return sampler.sample(config)


def _refuse_options_of_others(config: Config, sampler: Sampler) -> None:
    """Raise InputError for an option that another kind of run alone has a use for."""
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
        # A text is one line; a line end that a byte-level model drew is written as a space.
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
    is_image = data.kind == "images"
    picture = out.beside(".png")
    if is_image:
        picture.check_file()

    reseed(config.seed, "sample")
    rows = run.sample(config.count, labels)
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
    """Return the checked .npz file; without --out, one in the run folder, which may be replaced."""
    path = config.out or config.run / "samples" / f"drawn_{config.seed}.npz"
    if path.suffix != ".npz":
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
    """Return the class of each row; None of a GAN without classes."""
    if config.label != EVERY_CLASS and not 0 <= config.label < classes:
        rule = "be left out, for this GAN knows no classes"
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
