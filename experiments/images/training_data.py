"""The training set and the held-out set of an image or table model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from typing_extensions import Doc

from density.tables.columns import Columns
from density.tables.inference import Choice
from experiments.data.arrays import Data, refuse_beyond_float32
from experiments.data.image_files import ImageFiles
from experiments.data.readers import SOURCES, read_training_set
from experiments.data.records import describe, without_rows
from experiments.images.binarisation import BINARISATIONS, require_levels
from experiments.images.run import as_training_set, centred
from experiments.images.task import ImageObjective
from experiments.training.comparison import ORIGIN, require_same_data, require_same_reading
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.rules import Rule, check, within
from univae.run_folder import RunFolder
from univae.text.corpus import split

__all__ = ["ArrayData", "TrainingData", "training_data"]

FEWEST = 2  # held-out rows: a validation measures variances and information between rows


@dataclass(frozen=True, kw_only=True)
class ArrayData:
    """The images or rows to train on and to hold out."""

    data: Annotated[str, Doc(SOURCES)]
    validation: str = ""  # held-out set, in the same formats; empty: a share of --data
    held_out: float = 0.1  # without --validation: share of --data that is held out
    columns: tuple[str, ...] = ()  # with a table: the columns to use; by default all
    drop: tuple[str, ...] = ()  # with a table: columns to leave out, such as ids
    # with a table: columns of categories; kinds that no option names are inferred
    categorical: tuple[str, ...] = ()
    count: tuple[str, ...] = ()  # with a table: columns of whole numbers from 0
    numeric: tuple[str, ...] = ()  # with a table: columns of real numbers
    # with a table: texts of missing cells besides empty ones, instead of NA, nan, None, ?, - ...;
    # "": empty cells alone
    missing: tuple[str, ...] | None = None

    RULES: ClassVar[Mapping[str, Rule]] = {"held_out": within("(0, 1)", "a share of the data")}

    def __post_init__(self) -> None:
        check(self)

    @property
    def choice(self) -> Choice:
        """The columns of a table and their kinds that the options name."""
        kinds = (self.categorical, self.count, self.numeric)
        return Choice(self.columns, self.drop, *kinds, missing=self.missing)


class TrainingData(NamedTuple):
    """A training set and a held-out set, as the input of the model."""

    data: Data
    rows: np.ndarray  # indices to train on
    held_out: torch.Tensor
    held_out_rows: np.ndarray  # which rows of their file the held-out ones are
    held_out_data: Data  # that file
    record: dict[str, JsonObject]  # content of data.json
    notes: tuple[str, ...]


def training_data(
    source: ArrayData,
    objective: ImageObjective,
    seed: int,
    run: RunFolder | None = None,
    images: ImageFiles | None = None,
    origin: RunFolder | None = None,
) -> TrainingData:
    """Read training set and held-out set, in the units of ``run`` or of a new one.

    Args:
        source: the options that name the data.
        objective: how grey levels become black or white, and the size of validations.
        seed: of the choice of held-out rows.
        run: the run that is resumed, or opened again; None for a new one.
        images: the reader of image files, which must be that of ``run``; None: one without options.
        origin: the run whose weights a new one starts from, and whose units it has.

    Raises:
        InputError: the data are not those of ``run``, or cannot be used for training.
    """
    if run is not None and images is not None:
        require_same_reading(run, images.reading)
    data, other, record = _read(source, images or ImageFiles(), run or origin)
    if run is not None:
        require_same_data(run, record)

    data = _in_units_of_weights(data, source, run, origin)
    notes = [*data.notes, *(other.notes if other is not None else ())]
    data = centred(data, run or origin)
    record["data"] |= {"centre": data.centre, "levels": data.levels, "notes": data.notes}
    refuse_beyond_float32(data)
    if other is None:
        rows, held_out_rows = split(len(data), source.held_out, seed)
    else:
        other = as_training_set(replace(other, notes=()), data, _option(source), "--data")
        refuse_beyond_float32(other)
        notes += other.notes
        record["validation"]["notes"] = [*record["validation"]["notes"], *other.notes]
        rows = np.arange(len(data))
        held_out_rows = np.arange(len(other))
    _require_enough(source, len(data), len(held_out_rows))

    held_out = _binarised(data if other is None else other, data, source, objective, seed)
    order = np.random.default_rng(seed).permutation(held_out_rows)
    chosen = order[: objective.validation_data]
    x = held_out.batch(chosen)
    return TrainingData(data, rows, x, chosen, held_out, record, tuple(notes))


def _in_units_of_weights(
    data: Data, source: ArrayData, run: RunFolder | None, origin: RunFolder | None
) -> Data:
    """Return data in the levels of the run whose weights training starts from.

    A run that has started has a record of them.
    """
    units = run or origin
    if units is None or (run is not None and ORIGIN not in run.data_record()):
        return data
    record = units.data_record()
    if not record:
        return data
    who = f"--data {source.data}"
    return as_training_set(data, without_rows(record["data"]), who, f"the run {units.path}")


def _read(
    source: ArrayData, images: ImageFiles, units: RunFolder | None
) -> tuple[Data, Data | None, dict[str, JsonObject]]:
    """Return the data of --data, those of --validation, and the record of both.

    A table is read with the schema of ``units``: the run that is resumed, or whose weights a new
    one starts from, if there is one.
    """
    choice = source.choice
    stored = {} if units is None else units.data_record().get("data", {})
    has_schema = "columns" in stored
    schema = Columns.from_json(stored["columns"]) if has_schema else choice
    data = read_training_set(source.data, images, schema=schema)
    if data.columns is None and choice != Choice() and not has_schema:
        raise InputError(
            f"--data {source.data} has no column names, which --columns, --drop, --categorical, "
            "--count, --numeric and --missing need; give a .csv, .tsv or .parquet"
        )
    record = {"data": describe(data, source.data)}
    other = None
    if source.validation:
        other = read_training_set(source.validation, images, "--validation", data.columns)
        record["validation"] = describe(other, source.validation)
    return data, other, record


def _binarised(
    held_out: Data, train: Data, source: ArrayData, objective: ImageObjective, seed: int
) -> Data:
    """Return held-out data as validations see them, in the levels of the model."""
    binarisation = BINARISATIONS[BINARISATIONS[objective.binarisation].settled(train)]
    held_out = binarisation.fixed(held_out, seed)
    require_levels(held_out, binarisation.level_count(train.levels), _option(source))
    return held_out


def _option(source: ArrayData) -> str:
    return f"--validation {source.validation}"


def _require_enough(source: ArrayData, count: int, held_out: int) -> None:
    """Raise InputError where too few rows are held out for a validation."""
    if held_out >= FEWEST:
        return
    rule = f"{FEWEST} held-out rows are needed"
    if source.validation:
        raise InputError(f"{_option(source)}: {rule}; it has {held_out}")
    share = f"--held-out {source.held_out:g}"
    way_out = "raise it, or give --validation"
    raise InputError(f"{rule}; {count} rows with {share} give {held_out}; {way_out}")
