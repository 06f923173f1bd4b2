"""``univae encode``: the latent codes of texts, or their sentence vectors, as features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import tyro

from experiments.cli.commands import run
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.data.texts import read_texts
from experiments.kinds import ENCODERS, row_of_kind
from experiments.training.settings import LIMIT
from univae.checkpoint import JsonObject
from univae.rules import Rule, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes the codes of texts.

    For a text VAE they are the modes of the latent layers, each conditioned on the modes of earlier
    layers; for a sentence model they are its vectors, of length 1.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    data: str  # a file of one text per line, or python-docs
    out: Path  # .npy file to write: (texts, latent layers, latent width), or (texts, width)
    overwrite: bool = False  # replace an existing output file
    limit: int = 0  # number of texts, the first of --data; 0: all
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "limit": LIMIT,
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the file of the codes and their ``shape``.

    ``cut`` counts the texts of which a sentence model read only the beginning.
    """
    out = Output(config.out, config.overwrite, (config.run, config.data)).check_file()
    texts, reading_notes = read_texts(config.data, config.limit)
    encode = row_of_kind(config.run, ENCODERS)
    codes = encode(config.run, config.device, config.data, texts)
    notes = [*reading_notes, *codes.notes]
    print_notes(notes)
    with out.file() as path, path.open("wb") as file:
        np.save(file, codes.values)

    result = {
        "run": str(config.run),
        "out": str(config.out),
        "shape": list(codes.values.shape),
        **codes.counts,
    }
    return with_notes(result, [*codes.run_notes, *notes])


if __name__ == "__main__":
    run(Config, main)
