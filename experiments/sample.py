"""``univae sample``: texts from the prior of a trained UniVAE.

Images, or rows of a table, from a GAN.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro
from torch import Tensor

from experiments.cli.commands import run
from experiments.data.notes import with_notes
from experiments.data.numpy_files import write_npz
from experiments.data.outputs import Output, output_file
from experiments.gans.run import GanRun
from experiments.gans.scaling import to_data_units, to_grey_levels
from experiments.reports.image_grid import png
from experiments.text.latents import sample
from experiments.text.run import TextRun
from experiments.training.run_folder import Run
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.decoding.sampling import Sampling
from univae.errors import InputError
from univae.rules import COUNT, Rule, at_least, check

__all__ = ["Config", "main"]

# What only one kind of model has a use for.
OF_TEXTS = ("temperature", "top_k", "top_p")
OF_GANS = ("raw", "label")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Draws from a trained model: texts, or of a GAN images or rows of a table."""

    run: tyro.conf.Positional[Path]  # the run folder
    count: int = 10
    # of texts: a file, one a line; of a GAN: an .npz (and a .png of images), else in the run
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    # of texts: 1 draws from the model itself, 0 takes the most probable token each time
    temperature: float = 1.0
    top_k: int = 0  # of texts: only the k most probable tokens; 0: all
    top_p: float = 1.0  # of texts: only the smallest set of tokens with so much probability
    raw: bool = False  # of a GAN: the weights as they are, not their moving average
    label: int = -1  # of a conditional GAN: the class of all; -1: every class in turn
    checkpoint: str = "best"  # or last
    seed: int = 0
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**8),
        **Sampling.RULES,
        "label": at_least(-1, COUNT, "-1 (every class in turn) or more"),
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Return ``samples`` of texts and writes them to ``out``.

    Of a GAN, ``file`` and ``picture`` that were written.
    """
    gan = Run.open(config.run).config.get("command") == "train-gan"
    for name in OF_TEXTS if gan else OF_GANS:
        if (value := getattr(config, name)) != getattr(Config, name):
            kind, other = ("texts", "a GAN") if gan else ("GANs", "no GAN")
            raise InputError(
                f"sample: {name} is of {kind}, and {config.run} is {other}; got {name}={value}; drop it"
            )
    return _of_gan(config) if gan else _texts(config)


def _texts(config: Config) -> dict[str, Any]:
    out = output_file(config.out, config.overwrite, (config.run,))
    opened = TextRun(config.run, config.device, config.checkpoint)
    reseed(config.seed, "sample")
    texts = sample(opened, config.count, Sampling(config.temperature, config.top_k, config.top_p))
    if out is not None:
        # A text is one line; a line end that a byte-level model drew is written as a space.
        out.write_text("".join(" ".join(text.split("\n")) + "\n" for text in texts))

    return with_notes(
        {"run": str(config.run), "count": len(texts), "samples": texts}, opened.run.notes
    )


def _of_gan(config: Config) -> dict[str, Any]:
    """Write ``images`` or rows ``x`` in the numbers of the data, and ``labels`` if there are any.

    Only the run folder is read. Level data come as whole numbers 0..levels-1, others in the units
    of the data.
    """
    path = config.out or config.run / "samples" / f"drawn_{config.seed}.npz"
    if path.suffix != ".npz":
        raise InputError(f"sample: a GAN needs an --out that ends in .npz; got {path}")
    # The default path in the run folder is this command's own.
    out = Output(path, config.overwrite or config.out is None, (config.run,)).check_file()
    opened = GanRun(config.run, config.device, config.checkpoint, average=not config.raw)
    labels = _labels(config, opened.classes)
    data = opened.units()
    picture = out.beside(".png")
    if data.kind == "images":
        picture.check_file()
    reseed(config.seed, "sample")
    made = opened.sample(torch.randn(config.count, opened.players.generator.latent), labels)
    images = data.kind == "images"
    arrays = {}
    arrays["images" if images else "x"] = to_data_units(made, data)
    if labels is not None:
        arrays["labels"] = labels.numpy()
    with out.file() as temporary, temporary.open("wb") as file:
        write_npz(file, arrays)
    result: dict[str, Any] = {
        "run": str(config.run),
        "step": opened.step,
        "count": config.count,
        "file": str(path),
    }
    result["average"] = opened.has_average and not config.raw
    if images:
        picture.write_bytes(png(to_grey_levels(made), 256))
        result["picture"] = str(picture.path)
    return with_notes(result, opened.run.notes)


def _labels(config: Config, classes: int) -> Tensor | None:
    if config.label != -1 and not 0 <= config.label < classes:
        known = (
            f"lie in 0..{classes - 1}" if classes else "be left out, for this GAN knows no classes"
        )
        raise InputError(f"sample: label must {known}; got label={config.label}")
    each = torch.arange(config.count)
    return (
        (each % classes if config.label < 0 else torch.full_like(each, config.label))
        if classes
        else None
    )


if __name__ == "__main__":
    run(Config, main)
