"""``univae encode``: the latent codes of texts, or their sentence vectors, as features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.data.text_notes import Tally
from experiments.data.texts import read_texts
from experiments.sentences.run import COMMAND, SimilarRun
from experiments.text.latents import modes
from experiments.text.run import TextRun
from experiments.training.run_folder import Run
from experiments.training.settings import LIMIT
from univae.rules import Rule, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes the codes of texts: of a text VAE the mode of each latent layer, given the modes before it; of a sentence
    model its vectors, of length 1."""

    run: tyro.conf.Positional[Path]  # the run folder
    data: str  # a file of one text per line, or python-docs
    out: Path  # a .npy file of shape (texts, latent layers, latent width), or (texts, width)
    overwrite: bool = False  # replace an existing output file
    limit: int = 0  # only the first so many texts; 0: all
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "limit": LIMIT,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Return where the codes are and their ``shape``; ``cut``: texts a sentence model read cut."""
    out = Output(config.out, config.overwrite, (config.run, config.data)).check_file()
    texts, notes = read_texts(config.data, config.limit)
    counts = dict[str, int]()
    if Run.open(config.run).config.get("command") == COMMAND:
        sentences = SimilarRun(config.run, config.device)
        tally = Tally()
        codes = sentences.vectors(texts, tally)
        notes += sentences.notes(config.data, tally)
        remarks = sentences.run.notes
        counts["cut"] = tally.cut
    else:
        opened = TextRun(config.run, config.device)
        codes = modes(opened, texts).float().cpu().numpy()
        notes += opened.notes(config.data, texts)
        remarks = opened.run.notes
    print_notes(notes)
    with out.file() as path, path.open("wb") as file:
        np.save(file, codes)

    result = {"run": str(config.run), "out": str(config.out), "shape": list(codes.shape), **counts}
    return with_notes(result, [*remarks, *notes])


if __name__ == "__main__":
    run(Config, main)
