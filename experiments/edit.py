"""``univae edit``: resample some latent layers of a text, an image or a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import tyro

from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.array_outputs import TEXTS, Column, Contents, result_file, write_result
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.open_run import open_run
from experiments.images.row_outputs import contents_of, output_of
from experiments.images.rows import Rows, row_number
from experiments.kinds import Use, use_of
from experiments.text.notes import text_notes
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["EDITORS", "Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Samples chosen latent layers of a text, an image or a row again, with the others fixed."""

    run: tyro.conf.Positional[Path]  # the run folder
    # the text to edit; of images and tables the number of a row of --data, from 0
    text: tyro.conf.Positional[str]
    layers: str  # latent layers to sample, counted from 0 at the bottom, such as 0 or 0,1
    # for an image or table model: any source of train-density; empty: the run's training data
    data: str = ""
    # output file; texts: .txt, .csv, .jsonl, .parquet; images: .npz or .npy, with a .png beside, or
    # .png; rows: .csv, .jsonl, .parquet, .npz, .npy; default of images and rows: in the run folder
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    count: int = 5  # number of edits
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**6),
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)
        _layers(self.layers)


def main(config: Config) -> JsonObject:
    """Sample the layers.

    Returns:
        of a text the ``reconstruction``, and the edited ``texts`` with the words in common with it;
        of an image or row the path ``file``, and of an image that of the ``picture``: the original,
        its reconstruction, and the edits.
    """
    return use_of(config, EDITORS, "edit").act(config)


def _edit_text(config: Config) -> JsonObject:
    out = None
    if config.out is not None:
        out = result_file(config.out, TEXTS, (config.run,), overwrite=config.overwrite)
    run = open_run(TrainedText, config.run, config.device)
    reseed(config.seed, "edit")
    layers = _layers(config.layers)
    reconstruction, edits = run.edit(config.text, layers, config.count)
    notes = text_notes(run, "the text", [config.text], written=True)
    print_notes(notes)
    texts = [edit.text for edit in edits]
    shares = [edit.share for edit in edits]
    result = {
        "run": str(config.run),
        "text": config.text,
        "reconstruction": reconstruction,
        "layers": layers,
        "texts": texts,
        "kept": [edit.kept for edit in edits],
        "kept_share": shares,
    }
    if out is not None:
        columns: dict[str, Column] = {"text": texts, "kept_share": shares}
        result |= write_result(out, Contents(texts=texts, columns=columns))
    return with_notes(result, [*run.notes, *notes])


def _edit_row(config: Config) -> JsonObject:
    run = open_run(TrainedDensity, config.run, config.device)
    out = output_of(run, config.out, "edited", config.data, overwrite=config.overwrite)
    layers = _layers(config.layers)
    rows = Rows(run, config.data)
    print_notes(rows.notes)
    row = row_number(rows, "text", config.text)
    z = run.modes(rows.inputs([row]))
    reseed(config.seed, "edit")
    edited = run.redraw(z[0], layers, config.count)
    versions = run.from_model(run.decode(torch.cat((z, edited))))

    result = {
        "run": str(config.run),
        "data": rows.source,
        "row": row,
        "layers": layers,
        "count": config.count,
        **write_result(out, _versions(run, rows.originals([row]), versions)),
    }
    return with_notes(result, [*run.notes, *rows.notes])


def _versions(run: TrainedDensity, original: np.ndarray, versions: np.ndarray) -> Contents:
    """Return the original, its reconstruction and the edits as contents of a file."""
    together = contents_of(run, np.concatenate((original, versions)), 1 + len(versions))
    (name,) = together.arrays
    names = ["original", "reconstruction", *(f"edit {i}" for i in range(len(versions) - 1))]
    return Contents(
        arrays={name: versions[1:], "original": original, "reconstruction": versions[:1]},
        columns={"version": names, **together.columns} if together.columns else {},
        picture=together.picture,
    )


def _layers(text: str) -> list[int]:
    """Return the numbers in a list such as 0,1."""
    try:
        layers = [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"edit: --layers is a list like 0,1; got {text!r}") from None
    if min(layers) < 0:
        raise InputError(f"edit: --layers are counted from 0; got {text!r}")
    return layers


EDITORS: Mapping[type[Trained], Use[Any]] = {
    TrainedDensity: Use(TrainedDensity, ("data",), _edit_row),
    TrainedText: Use(TrainedText, (), _edit_text),
}


if __name__ == "__main__":
    run(Config, main)
