"""``univae encode``: the latent codes of texts, or their sentence vectors, as features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tyro

from experiments.cli import run
from experiments.run import Run
from experiments.settings import LIMIT
from experiments.similar_run import COMMAND, SimilarRun
from experiments.text_run import TextRun, texts_of
from experiments.text_use import modes
from univae.checkpoint import replacing_file
from univae.rules import Rule, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes the codes of texts: of a text VAE the mode of each latent layer, given the modes before it; of a sentence
    model its vectors, of length 1."""

    run: tyro.conf.Positional[Path]  # the run folder
    data: str  # a file of one text per line, or python-docs
    out: Path  # a .npy file of shape (texts, latent layers, latent width), or (texts, width)
    limit: int = 0  # only the first so many texts; 0: all
    device: str = "auto"

    RULES: ClassVar[Mapping[str, Rule]] = {
        "limit": LIMIT,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> dict[str, Any]:
    """Returns where the codes are and their ``shape``."""
    texts = texts_of(config.data, config.limit)
    if Run.open(config.run).config.get("command") == COMMAND:
        codes = SimilarRun(config.run, config.device).vectors(list(texts))
    else:
        codes = modes(TextRun(config.run, config.device), list(texts)).float().cpu().numpy()
    with replacing_file(config.out) as path, path.open("wb") as file:
        np.save(file, codes)

    return {"run": str(config.run), "out": str(config.out), "shape": list(codes.shape)}


if __name__ == "__main__":
    run(Config, main)
