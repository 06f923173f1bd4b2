"""``univae train-density``: a VAE on images or a table."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch

from density.trained import TrainedDensity
from experiments.cli.commands import run
from experiments.data.arrays import Data, absolute_sources, describe, read, refuse_beyond_float32
from experiments.data.notes import print_notes, with_notes
from experiments.evaluation.latent_model import of_training
from experiments.evaluation.open_run import open_run
from experiments.images.config import ImageShape, build, model_config
from experiments.images.presets import PRESETS
from experiments.images.run import (
    as_training_set,
    centred,
    fixed,
    require_levels,
    settled,
)
from experiments.images.samples import write_samples
from experiments.images.task import DensityTask, ImageObjective
from experiments.reports.page import write as write_report
from experiments.training.distributed import join
from experiments.training.loop import fit
from experiments.training.run_folder import Run, begin_run, or_nothing
from experiments.training.settings import Settings
from experiments.training.task import reseed
from univae.errors import InputError
from univae.latent.sampling import detached
from univae.rules import Rule, within
from univae.text.corpus import split

__all__ = ["PRESETS", "Config", "main", "train"]

CALIBRATED = 10_000  # data whose marginals the output starts at


@dataclass(frozen=True, kw_only=True)
class Config(Settings, ImageObjective, ImageShape):
    """Trains a VAE on a folder, .zip, .npz, .npy or IDX(.gz) of images or tables, or on a built-in set."""

    data: str  # a file, a folder, or a built-in name: digits, glyphs, wine ...
    out: Path  # the run folder
    validation: str = ""  # held-out data; empty: a share of --data
    held_out: float = 0.1  # that share
    command: Literal["train-density"] = "train-density"  # what made the run folder; leave it

    RULES: ClassVar[Mapping[str, Rule]] = {
        "held_out": within("(0, 1)", "a share of the data"),
    }

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        ImageObjective.__post_init__(self)


class Parts(NamedTuple):
    """A training set and a held-out set, as the model takes them."""

    data: Data
    rows: np.ndarray  # indices to train on
    held_out: torch.Tensor
    held_out_rows: np.ndarray  # which rows of their file the held-out ones are
    record: dict[str, dict[str, Any]]  # what the run folder keeps of both
    notes: tuple[str, ...]


def main(config: Config) -> dict[str, Any]:
    """Train, then writes samples and the report.

    The JSON names likelihood, bound, KL per layer, and active units.
    """
    result = train(config)
    if int(os.environ.get("RANK", "0")) == 0:
        write_samples(open_run(TrainedDensity, config.out, config.device), held_out_data(config))
        result["report"] = str(write_report(config.out))
    return of_training(result)


def train(config: Config) -> dict[str, Any]:
    """What :func:`experiments.training.loop.fit` returns, with the notes on the data."""
    parts = _parts(config, Run.open(config.out) if config.resume else None)
    data = parts.data
    config = replace(config, binarisation=settled(config.binarisation, data))
    described = model_config(config, data, config.binarisation != "none")
    if config.binarisation in ("static", "threshold"):
        data = fixed(data, config.binarisation, config.seed)
    with join(config.device):
        reseed(config.seed, "weights")
        model = build(described)
        start = data.batch(parts.rows[:CALIBRATED])
        model.calibrate(
            start / (data.levels - 1) if config.binarisation == "dynamic" and data.levels else start
        )
        if config.objective in ("dreg", "stl"):
            # refuses a posterior that it cannot detach, with nothing written yet
            detached(model.posterior(start[:1]))
        options = absolute_sources(dataclasses.asdict(config))
        folder = begin_run(config.out, options, parts.record, model.config)
        print_notes(parts.notes)
        with or_nothing(folder):
            training_set = (data, parts.rows)
            task = DensityTask(
                model, config, config.seed, training_set, parts.held_out, parts.held_out_rows
            )
            result = fit(task, config, folder)
    return with_notes(result, [*parts.notes, *result.get("notes", [])])


def held_out_data(config: Config) -> torch.Tensor:
    """Return the rows that the validations of a run look at, as its model takes them."""
    return _parts(config, Run.open(config.out)).held_out


def _parts(config: Config, run: Run | None) -> Parts:
    """Return training set and held-out set, in the units of ``run`` or of a new one.

    Raises:
        InputError: the data are not those of ``run``, the held-out rows are fewer than two or of
            another kind, or a number is beyond float32.
    """
    data = read(config.data)
    record = {"data": describe(data, config.data)}
    notes = data.notes
    if config.validation:
        other = read(config.validation)
        record["validation"] = describe(other, config.validation)
        notes += other.notes
    if run is not None and run.data_record():
        Run(run.path, {"resume": True}).record_data(record)
    data = centred(data, run)
    record["data"]["centre"] = data.centre
    refuse_beyond_float32(data)
    if config.validation:
        other = as_training_set(
            replace(other, notes=()), data, f"--validation {config.validation}", "--data"
        )
        refuse_beyond_float32(other)
        notes += other.notes
        record["validation"]["notes"] = [*record["validation"]["notes"], *other.notes]
        rows = np.arange(len(data))
        chosen = np.arange(len(other))
    else:
        other = data
        rows, chosen = split(len(data), config.held_out, config.seed)
    _require_two(config, len(data), len(chosen))
    how = settled(config.binarisation, data)
    other = fixed(other, how, config.seed)
    require_levels(other, 2 if how != "none" else data.levels, f"--validation {config.validation}")
    picked = np.random.default_rng(config.seed).permutation(chosen)[: config.validation_data]
    return Parts(data, rows, other.batch(picked), picked, record, notes)


def _require_two(config: Config, count: int, held_out: int) -> None:
    if held_out >= 2:
        return
    if config.validation:
        raise InputError(
            f"--validation {config.validation}: 2 held-out rows are needed; it has {held_out}"
        )
    raise InputError(
        f"2 held-out rows are needed; {count} rows with --held-out {config.held_out:g} give {held_out}; "
        "raise it, or give --validation"
    )


if __name__ == "__main__":
    run(Config, main)
