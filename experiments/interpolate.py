"""``univae interpolate``: the texts between two texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.text.latents import interpolate
from experiments.text.run import TextRun
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Walks from one text's latents to another's and decodes on the way."""

    run: tyro.conf.Positional[Path]  # the run folder
    start: tyro.conf.Positional[str]  # a text
    end: tyro.conf.Positional[str]  # another
    steps: int = 8  # texts on the way, both ends included
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "steps": at_least(2, 10**6, "at least 2, both ends"),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Return ``texts``: the first and the last are the reconstructions of the ends."""
    opened = TextRun(config.run, config.device)
    texts = interpolate(opened, config.start, config.end, config.steps)
    notes = opened.notes("start and end", [config.start, config.end], written=True)
    print_notes(notes)
    return with_notes({"run": str(config.run), "texts": texts}, [*opened.run.notes, *notes])


if __name__ == "__main__":
    run(Config, main)
