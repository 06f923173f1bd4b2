"""``univae edit``: draw chosen latent layers anew and keep the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.text.latents import edit
from experiments.text.run import TextRun
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Re-samples the chosen scales of a text and shows what stayed."""

    run: tyro.conf.Positional[Path]  # the run folder
    text: tyro.conf.Positional[str]
    layers: str  # latent layers to draw anew, counted from 0 at the bottom: 0 or 0,1
    count: int = 5
    seed: int = 0
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "count": at_least(1, 10**6),
        "seed": SEED,
    }

    def __post_init__(self) -> None:
        check(self)
        _layers(self.layers)


def main(config: Config) -> dict[str, Any]:
    """Return ``texts``, each with the words and the share of words it kept of the ``reconstruction``."""
    opened = TextRun(config.run, config.device)
    reseed(config.seed, "edit")
    layers = _layers(config.layers)
    reconstruction, edits = edit(opened, config.text, layers, config.count)
    notes = opened.notes("the text", [config.text], written=True)
    print_notes(notes)
    result = {
        "run": str(config.run),
        "text": config.text,
        "reconstruction": reconstruction,
        "layers": layers,
        "texts": [e["text"] for e in edits],
        "kept": [e["kept"] for e in edits],
        "kept_share": [e["share"] for e in edits],
    }
    return with_notes(result, [*opened.run.notes, *notes])


def _layers(text: str) -> list[int]:
    try:
        layers = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"edit: --layers is a list like 0,1; got {text!r}") from None
    if min(layers) < 0:
        raise InputError(f"edit: --layers are counted from 0; got {text!r}")
    return layers


if __name__ == "__main__":
    run(Config, main)
