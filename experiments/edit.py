"""``univae edit``: resample some latent layers of a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.open_run import open_run
from experiments.text.notes import text_notes
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check
from univae.vae.trained import TrainedText

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Samples chosen latent layers of a text again, with the others fixed."""

    run: tyro.conf.Positional[Path]  # the run folder
    text: tyro.conf.Positional[str]  # the text to edit
    layers: str  # latent layers to sample, counted from 0 at the bottom, such as 0 or 0,1
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
    """Return the ``reconstruction``, and the edited ``texts`` with the words in common with it."""
    run = open_run(TrainedText, config.run, config.device)
    reseed(config.seed, "edit")
    layers = _layers(config.layers)
    reconstruction, edits = run.edit(config.text, layers, config.count)
    notes = text_notes(run, "the text", [config.text], written=True)
    print_notes(notes)
    result = {
        "run": str(config.run),
        "text": config.text,
        "reconstruction": reconstruction,
        "layers": layers,
        "texts": [edit.text for edit in edits],
        "kept": [edit.kept for edit in edits],
        "kept_share": [edit.share for edit in edits],
    }
    return with_notes(result, [*run.notes, *notes])


def _layers(text: str) -> list[int]:
    """Return the numbers in a list such as 0,1."""
    try:
        layers = [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"edit: --layers is a list like 0,1; got {text!r}") from None
    if min(layers) < 0:
        raise InputError(f"edit: --layers are counted from 0; got {text!r}")
    return layers


if __name__ == "__main__":
    run(Config, main)
