"""``univae interpolate``: data decoded from latents between those of two."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import tyro

from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.array_outputs import (
    IMAGE_PATH,
    TEXTS,
    Column,
    Contents,
    is_animation,
    result_file,
    write_result,
)
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.open_run import open_run
from experiments.gans import samples as gan_samples
from experiments.gans.units import units_of
from experiments.images.row_outputs import animation_of, contents_of, output_of
from experiments.images.rows import Rows, row_number
from experiments.kinds import Use, use_of
from experiments.text.notes import text_notes
from gan.trained import TrainedGan
from univae.checkpoint import JsonObject
from univae.rules import Rule, at_least, check
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["INTERPOLATORS", "Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Decodes latents between those of two texts, images or rows, or between two of a GAN."""

    run: tyro.conf.Positional[Path]  # the run folder
    # the start: a text; of images and tables the number of a row of --data, from 0; of a GAN the
    # seed of its latent
    start: tyro.conf.Positional[str]
    end: tyro.conf.Positional[str]  # the end, in the same way
    # for an image or table model: any source of train-density; empty: the run's training data
    data: str = ""
    # output file; texts: .txt, .csv, .jsonl, .parquet; images: .npz or .npy, with a .png beside, or
    # .png, or .gif: there and back, of a GAN the circle through both latents; rows: .csv, .jsonl,
    # .parquet, .npz, .npy; default of images and rows: in the run folder
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    # number of texts, images or rows, both ends included; images of a GAN's circle, the start once
    steps: int = 8
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "steps": at_least(2, 10**6, "at least 2, both ends"),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Decode the latents; the first and the last are the reconstructions of the ends.

    Returns:
        ``texts``; of images and rows the path ``file``, and of images that of their ``picture``,
        but for an animation.
    """
    return use_of(config, INTERPOLATORS, "interpolate").act(config)


def _between_texts(config: Config) -> JsonObject:
    out = None
    if config.out is not None:
        out = result_file(config.out, TEXTS, (config.run,), overwrite=config.overwrite)
    run = open_run(TrainedText, config.run, config.device)
    texts = run.interpolate(config.start, config.end, config.steps)
    notes = text_notes(run, "start and end", [config.start, config.end], written=True)
    print_notes(notes)
    result: JsonObject = {"run": str(config.run), "texts": texts}
    if out is not None:
        columns: dict[str, Column] = {"step": list(range(len(texts))), "text": texts}
        result |= write_result(out, Contents(texts=texts, columns=columns))
    return with_notes(result, [*run.notes, *notes])


def _between_rows(config: Config) -> JsonObject:
    run = open_run(TrainedDensity, config.run, config.device)
    out = output_of(
        run,
        config.out,
        "interpolated",
        config.data,
        overwrite=config.overwrite,
        images=IMAGE_PATH,
    )
    rows = Rows(run, config.data)
    print_notes(rows.notes)
    ends = [row_number(rows, "start", config.start), row_number(rows, "end", config.end)]
    start, end = run.modes(rows.inputs(ends)).unbind(0)
    path = run.from_model(run.decode(run.between(start, end, config.steps)))
    if is_animation(out):
        contents = animation_of(run, path)
    else:
        contents = contents_of(run, path, len(path))

    result = {
        "run": str(config.run),
        "data": rows.source,
        "rows": ends,
        "count": len(path),
        **write_result(out, contents),
    }
    return with_notes(result, [*run.notes, *rows.notes])


def _between_latents(config: Config) -> JsonObject:
    run = open_run(TrainedGan, config.run, config.device)
    data = units_of(run)
    out = gan_samples.output_of(
        run, data, config.out, "interpolated", overwrite=config.overwrite, images=IMAGE_PATH
    )
    seeds = [gan_samples.seed_of(name, getattr(config, name)) for name in ("start", "end")]
    path = gan_samples.circle if is_animation(out) else gan_samples.between
    z = path(run, seeds[0], seeds[1], config.steps)
    labels = torch.zeros(len(z), dtype=torch.long) if run.classes else None
    rows = run.generate(z, labels)
    if is_animation(out):
        contents = gan_samples.animation_of(rows)
    else:
        contents = gan_samples.contents_of(data, rows, labels, len(rows))
    result = {
        "run": str(config.run),
        "step": run.step,
        "seeds": seeds,
        "count": len(rows),
        **write_result(out, contents),
    }
    notes = [*run.notes]
    if labels is not None:
        notes.append("all are of class 0; univae sample draws every class")
        print_notes(notes[-1:])
    return with_notes(result, notes)


INTERPOLATORS: Mapping[type[Trained], Use[Any]] = {
    TrainedGan: Use(TrainedGan, (), _between_latents),
    TrainedDensity: Use(TrainedDensity, ("data",), _between_rows),
    TrainedText: Use(TrainedText, (), _between_texts),
}


if __name__ == "__main__":
    run(Config, main)
