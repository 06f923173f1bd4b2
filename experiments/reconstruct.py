"""``univae reconstruct``: encode texts and decode their latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.texts import read_texts
from experiments.evaluation.open_run import open_run
from experiments.text.notes import text_notes
from experiments.training.settings import LIMIT
from univae.checkpoint import JsonObject
from univae.rules import Rule, at_least, check
from univae.vae.trained import TrainedText

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Encodes texts to the modes of their latents, and decodes these."""

    run: tyro.conf.Positional[Path]  # the run folder
    data: str  # a file of one text per line, or python-docs
    limit: int = 20  # number of texts, the first of --data; 0: all
    beam: int = 1  # hypotheses of the beam search; more are likelier and slower; 1: greedy
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "limit": LIMIT,
        "beam": at_least(1, 10**4),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return ``texts`` as [text, reconstruction], and the share of exact reconstructions."""
    run = open_run(TrainedText, config.run, config.device)
    texts, reading_notes = read_texts(config.data, config.limit)
    pairs = list(zip(texts, run.reconstruct(texts, config.beam), strict=True))

    notes = [*reading_notes, *text_notes(run, config.data, texts)]
    print_notes(notes)
    result = {
        "run": str(config.run),
        "count": len(pairs),
        "exact_share": sum(text == reconstruction for text, reconstruction in pairs) / len(pairs),
        "texts": [list(pair) for pair in pairs],
    }
    return with_notes(result, [*run.notes, *notes])


if __name__ == "__main__":
    run(Config, main)
