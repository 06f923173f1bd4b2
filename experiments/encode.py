"""``univae encode``: the latent codes of data, or the vectors of sentences, as features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.array_outputs import (
    CODES,
    Contents,
    code_columns,
    result_file,
    write_result,
)
from experiments.data.notes import print_notes, with_notes
from experiments.kinds import ENCODERS, row_of_kind
from experiments.training.settings import LIMIT
from univae.checkpoint import JsonObject
from univae.rules import Rule, check

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes the codes of texts, images or rows.

    For a VAE they are the modes of the latent layers, each conditioned on the modes of earlier
    layers; for a sentence model they are its vectors, of length 1.
    """

    run: tyro.conf.Positional[Path]  # the run folder
    # data to encode: a file of one text per line, or python-docs; for images and tables any source
    # of train-density
    data: str
    # file to write: .npy or .npz of (texts, latent layers, width), (texts, width) or (rows, width);
    # .csv, .jsonl or .parquet with a column for each number
    out: Path
    overwrite: bool = False  # replace an existing output file
    limit: int = 0  # number of texts, images or rows, the first of --data; 0: all
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
    out = result_file(config.out, CODES, (config.run, config.data), overwrite=config.overwrite)
    encode = row_of_kind(config.run, ENCODERS, "encode")
    codes = encode(config.run, config.device, config.data, config.limit)
    print_notes(codes.notes)
    values = codes.values
    write_result(out, Contents(arrays={"x": values}, columns=code_columns(values)))

    result = {
        "run": str(config.run),
        "out": str(config.out),
        "shape": list(values.shape),
        **codes.counts,
    }
    return with_notes(result, [*codes.run_notes, *codes.notes])


if __name__ == "__main__":
    run(Config, main)
