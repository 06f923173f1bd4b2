"""``univae reconstruct``: encode data and decode their latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.array_outputs import (
    TEXTS,
    Contents,
    result_file,
    write_result,
)
from experiments.data.notes import print_notes, with_notes
from experiments.data.texts import read_texts
from experiments.evaluation.open_run import open_run
from experiments.images.reconstruction import errors, pair_contents
from experiments.images.row_outputs import output_of
from experiments.images.rows import Rows
from experiments.kinds import Use, use_of
from experiments.text.notes import text_notes
from experiments.training.settings import LIMIT
from univae.checkpoint import JsonObject
from univae.rules import Rule, at_least, check
from univae.trained import Trained
from univae.vae.trained import TrainedText

__all__ = ["RECONSTRUCTORS", "Config", "main"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Encodes texts, images or rows to the modes of their latents, and decodes these."""

    run: tyro.conf.Positional[Path]  # the run folder
    # data to reconstruct: a file of one text per line, or python-docs; for images and tables any
    # source of train-density
    data: str
    # output file; texts: .txt, .csv, .jsonl, .parquet; images: .npz or .npy, with a .png beside, or
    # .png; rows: .csv, .jsonl, .parquet, .npz, .npy; default of images and rows: in the run folder
    out: Path | None = None
    overwrite: bool = False  # replace an existing output file
    limit: int = 20  # number of texts, images or rows, the first of --data; 0: all
    # for texts: hypotheses of the beam search; more are likelier and slower; 1: greedy
    beam: int = 1
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {
        "limit": LIMIT,
        "beam": at_least(1, 10**4),
    }

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return the reconstructions.

    Returns:
        of texts ``texts`` as [text, reconstruction], and the share of exact reconstructions; of
        images and rows the mean errors per dimension in the unit of the data, the path ``file``,
        and of images that of their ``picture``.
    """
    return use_of(config, RECONSTRUCTORS, "reconstruct").act(config)


def _reconstruct_texts(config: Config) -> JsonObject:
    out = None
    if config.out is not None:
        inputs = (config.run, config.data)
        out = result_file(config.out, TEXTS, inputs, overwrite=config.overwrite)
    run = open_run(TrainedText, config.run, config.device)
    texts, reading_notes = read_texts(config.data, config.limit)
    again = run.reconstruct(texts, config.beam)

    notes = [*reading_notes, *text_notes(run, config.data, texts)]
    print_notes(notes)
    exact = sum(text == reconstruction for text, reconstruction in zip(texts, again, strict=True))
    result: JsonObject = {
        "run": str(config.run),
        "count": len(texts),
        "exact_share": exact / len(texts),
        "texts": [list(pair) for pair in zip(texts, again, strict=True)],
    }
    if out is not None:
        columns = {"text": texts, "reconstruction": again}
        result |= write_result(out, Contents(texts=again, columns=columns))
    return with_notes(result, [*run.notes, *notes])


def _reconstruct_rows(config: Config) -> JsonObject:
    run = open_run(TrainedDensity, config.run, config.device)
    out = output_of(run, config.out, "reconstructed", config.data, overwrite=config.overwrite)
    rows = Rows(run, config.data)
    print_notes(rows.notes)
    chosen = slice(0, config.limit or len(rows))
    originals = rows.originals(chosen)
    again = run.from_model(run.decode(run.modes(rows.inputs(chosen))))

    result = {
        "run": str(config.run),
        "data": rows.source,
        "count": len(again),
        **errors(run, originals, again),
        **write_result(out, pair_contents(run, originals, again)),
    }
    return with_notes(result, [*run.notes, *rows.notes])


RECONSTRUCTORS: Mapping[type[Trained], Use[Any]] = {
    TrainedDensity: Use(TrainedDensity, (), _reconstruct_rows),
    TrainedText: Use(TrainedText, ("beam",), _reconstruct_texts),
}


if __name__ == "__main__":
    run(Config, main)
