"""The rows that an image or table model trains on, and those that its validations look at."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from typing_extensions import Doc

from experiments.data.arrays import Data, refuse_beyond_float32
from experiments.data.readers import SOURCES, read
from experiments.data.records import describe
from experiments.images.binarisation import BINARISATIONS, require_levels
from experiments.images.run import as_training_set, centred
from experiments.images.task import ImageObjective
from experiments.training.run_folder import Run
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, check, within
from univae.text.corpus import split

__all__ = ["ArrayData", "TrainingData", "training_data"]

FEWEST = 2  # held-out rows: a validation measures variances and information between rows


@dataclass(frozen=True, kw_only=True)
class ArrayData:
    """The images or rows to train on and to hold out."""

    data: Annotated[str, Doc(SOURCES)]
    validation: str = ""  # held-out data; empty: a share of --data
    held_out: float = 0.1  # share of --data that is held out, without --validation

    RULES: ClassVar[Mapping[str, Rule]] = {"held_out": within("(0, 1)", "a share of the data")}

    def __post_init__(self) -> None:
        check(self)


class TrainingData(NamedTuple):
    """A training set and a held-out set, as the model takes them."""

    data: Data
    rows: np.ndarray  # indices to train on
    held_out: torch.Tensor
    held_out_rows: np.ndarray  # which rows of their file the held-out ones are
    record: dict[str, JsonObject]  # what data.json holds of both
    notes: tuple[str, ...]


def training_data(
    source: ArrayData, objective: ImageObjective, seed: int, run: Run | None = None
) -> TrainingData:
    """Read training set and held-out set, in the units of ``run`` or of a new one.

    Raises:
        InputError: the data are not those of ``run``, the held-out rows are fewer than two or of
            another kind, or a number is beyond float32.
    """
    data = read(source.data)
    other = read(source.validation) if source.validation else None
    record = {"data": describe(data, source.data)}
    notes = data.notes
    if other is not None:
        record["validation"] = describe(other, source.validation)
        notes += other.notes
    if run is not None and run.data_record():
        Run(run.path, {"resume": True}).record_data(record)

    data = centred(data, run)
    record["data"]["centre"] = data.centre
    refuse_beyond_float32(data)
    if other is None:
        other = data
        rows, held_out_rows = split(len(data), source.held_out, seed)
    else:
        name = f"--validation {source.validation}"
        other = as_training_set(replace(other, notes=()), data, name, "--data")
        refuse_beyond_float32(other)
        notes += other.notes
        record["validation"]["notes"] = [*record["validation"]["notes"], *other.notes]
        rows = np.arange(len(data))
        held_out_rows = np.arange(len(other))
    _require_enough(source, len(data), len(held_out_rows))

    binarisation = BINARISATIONS[BINARISATIONS[objective.binarisation].settled(data)]
    other = binarisation.fixed(other, seed)
    levels = binarisation.level_count(data.levels)
    require_levels(other, levels, f"--validation {source.validation}")
    order = np.random.default_rng(seed).permutation(held_out_rows)
    chosen = order[: objective.validation_data]
    return TrainingData(data, rows, other.batch(chosen), chosen, record, notes)


def _require_enough(source: ArrayData, count: int, held_out: int) -> None:
    """Raise InputError where too few rows are held out for a validation."""
    if held_out >= FEWEST:
        return
    rule = f"{FEWEST} held-out rows are needed"
    if source.validation:
        raise InputError(f"--validation {source.validation}: {rule}; it has {held_out}")
    share = f"--held-out {source.held_out:g}"
    way_out = "raise it, or give --validation"
    raise InputError(f"{rule}; {count} rows with {share} give {held_out}; {way_out}")
