"""``univae impute``: a table with its missing cells filled by a trained model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import tyro

from density.tables.imputation import draw_missing, impute
from density.tables.raw import RawTable
from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.array_outputs import Contents, holds_text, result_file, write_result
from experiments.data.arrays import Data
from experiments.data.notes import print_notes, with_notes
from experiments.data.outputs import Output
from experiments.data.table_outputs import joined_columns, number_text, separator_of
from experiments.evaluation.open_run import open_run
from experiments.images.run import read_for
from experiments.kinds import row_of_kind
from experiments.training.settings import SEED
from experiments.training.task import reseed
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]

ROWS = 4096  # rows in memory at once
DIGITS = 6  # significant digits of a number that is filled in


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fills the missing cells of a table by importance sampling of the latent."""

    run: tyro.conf.Positional[Path]  # the run folder, of train-density on a table
    data: str  # the table: a .csv, .tsv or .parquet with the columns of the training set
    # file to write, the table with its missing cells filled: .csv, .tsv, .jsonl or .parquet
    out: Path
    overwrite: bool = False  # replace an existing output file
    samples: int = 1000  # importance samples per row; more are more precise and take time
    # draw the missing cells at random instead of their mean or most probable value; several seeds
    # give a multiple imputation
    draw: bool = False
    checkpoint: str = "best"  # best (weights of the best validation) or last
    seed: int = 0  # seed of the samples
    device: str = "auto"  # auto (the GPU if there is one), cpu, cuda, cuda:1, ...

    RULES: ClassVar[Mapping[str, Rule]] = {"samples": at_least(1, 10**6), "seed": SEED}

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Write the table; return the number of rows and of cells filled, in total and by column."""
    row_of_kind(config.run, {TrainedDensity: "impute"}, "impute")
    inputs = (config.run, config.data)
    out = result_file(config.out, ("columns",), inputs, overwrite=config.overwrite)
    trained = open_run(TrainedDensity, config.run, config.device, config.checkpoint)
    if trained.columns is None:
        raise InputError(
            f"{config.run} was not trained on a table with named columns; missing cells need one: "
            "train on a .csv, .tsv or .parquet"
        )
    data = read_for(trained, config.data)
    if data.table is None:
        raise InputError(f"--data {config.data} has no column names; give a .csv, .tsv or .parquet")
    reseed(config.seed, "impute")
    cells = trained.columns.decode(_filled(config, trained, data))
    is_missing = np.isnan(data.values)
    filled = {name: int(is_missing[:, i].sum()) for i, name in enumerate(trained.columns.names)}
    _write(out, data.table, cells, dict(zip(filled, is_missing.T, strict=True)))
    print_notes(data.notes)
    result: JsonObject = {
        "run": str(config.run),
        "count": len(data),
        "filled": sum(filled.values()),
        "filled_by_column": filled,
        "file": str(config.out),
    }
    return with_notes(result, [*trained.notes, *data.notes])


def _filled(config: Config, trained: TrainedDensity, data: Data) -> np.ndarray:
    """Return the encoded table (N, columns) in the units of the data, without missing cells."""
    fill = draw_missing if config.draw else impute
    parts = []
    for start in range(0, len(data), ROWS):
        x = data.batch(slice(start, start + ROWS)).to(trained.device)
        parts.append(trained.from_model(fill(trained.model, x, config.samples)))
    return np.concatenate(parts)


def _write(
    out: Output,
    table: RawTable,
    cells: Mapping[str, np.ndarray],
    is_missing: Mapping[str, np.ndarray],
) -> None:
    """Write the table as it was read, with the missing cells of the model's columns filled."""
    columns = {}
    for name, values in joined_columns(table, as_text=holds_text(out)).items():
        column = list(values)
        as_texts = any(isinstance(cell, str) for cell in column)
        decimal = "," if name in table.decimal_commas else table.decimal
        for row in np.flatnonzero(is_missing.get(name, np.zeros(0, dtype=bool))).tolist():
            value = _rounded(cells[name][row])
            text = number_text(value, decimal)
            column[row] = str(text) if as_texts else value
        columns[name] = column
    write_result(out, Contents(columns=columns, separator=separator_of(table)))


def _rounded(value: object) -> object:
    """Return a real number with :data:`DIGITS` digits, a whole one or a text as it is."""
    if isinstance(value, float):
        number = float(f"{value:.{DIGITS}g}")
        return int(number) if number == int(number) else number
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    run(Config, main)
