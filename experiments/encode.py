"""``univae encode``: the latent codes of data, or the vectors of sentences, as features."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.cli.commands import run
from experiments.data.array_outputs import (
    CODES,
    Contents,
    code_columns,
    growing_result,
    result_file,
)
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.evaluation.codes import CodeBlock, Codes
from experiments.kinds import ENCODERS, row_of_kind
from experiments.training.distributed import World, join
from experiments.training.settings import LIMIT
from univae.checkpoint import JsonObject
from univae.rules import Rule, check
from univae.text.tally import Tally

__all__ = ["Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Writes the codes of texts, images or rows.

    For a VAE they are the modes of the latent layers, each conditioned on the modes of earlier
    layers; for a sentence model they are its vectors, of length 1. The file is written while data
    are read, .npz and .parquet at the end. Under torchrun the processes share the data.
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
    open_codes = row_of_kind(config.run, ENCODERS, "encode")
    with join(config.device) as world:
        codes = open_codes(config.run, str(world.device), config.data, config.limit)
        if not world.first:
            deque(_encoded(codes, world), maxlen=0)
            return {}
        shape, tally = _write(out, _encoded(codes, world))
        notes = codes.notes(tally)
        print_notes(notes)
        result: JsonObject = {"run": str(config.run), "out": str(config.out), "shape": shape}
        result |= {name: getattr(tally, name) for name in codes.counted}
        return with_notes(result, [*codes.run_notes, *notes])


def _encoded(codes: Codes, world: World) -> Iterator[CodeBlock]:
    """Yield the blocks in order to the first process, nothing to the others; each encodes a share.

    A collective operation.
    """
    while blocks := list(islice(codes.blocks, world.size)):
        own = blocks[world.rank : world.rank + 1]
        for encoded in world.gather(list(map(codes.encode, own))):
            yield from encoded


def _write(out: Output, blocks: Iterator[CodeBlock]) -> tuple[list[int], Tally]:
    """Write the codes as they come; return the shape of all, and the counts on their texts."""
    total = Tally()
    shape = [0]
    with growing_result(out, CODES) as file:
        for values, tally in blocks:
            file.add(Contents(arrays={"x": values}, columns=code_columns(values)))
            total.add(tally)
            shape = [shape[0] + len(values), *values.shape[1:]]
    return shape, total


if __name__ == "__main__":
    run(Config, main)
