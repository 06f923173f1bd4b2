"""``univae interpolate``: texts decoded from latents between those of two texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.open_run import open_run
from experiments.text.notes import text_notes
from univae.checkpoint import JsonObject
from univae.rules import Rule, at_least, check
from univae.vae.trained import TrainedText

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Decodes latents between those of two texts."""

    run: tyro.conf.Positional[Path]  # the run folder
    start: tyro.conf.Positional[str]  # the text at the start
    end: tyro.conf.Positional[str]  # the text at the end
    steps: int = 8  # number of texts, both ends included
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "steps": at_least(2, 10**6, "at least 2, both ends"),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return ``texts``: the first and the last are the reconstructions of the ends."""
    run = open_run(TrainedText, config.run, config.device)
    texts = run.interpolate(config.start, config.end, config.steps)
    notes = text_notes(run, "start and end", [config.start, config.end], written=True)
    print_notes(notes)
    return with_notes({"run": str(config.run), "texts": texts}, [*run.notes, *notes])


if __name__ == "__main__":
    run(Config, main)
