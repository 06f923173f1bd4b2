"""The data of ``train-gan``: options, training rows and held-out rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from torch import Tensor
from typing_extensions import Doc

from experiments.data.arrays import Data, all_alike
from experiments.data.image_files import ImageFiles
from experiments.data.readers import SOURCES, read_training_set
from experiments.data.records import describe, without_rows
from experiments.data.table_files import as_numbers
from experiments.gans.scaling import gan_rows, in_units_of
from experiments.training.comparison import require_same_reading
from experiments.training.run_folder import Run
from univae.errors import InputError
from univae.rules import Rule, at_least, check, within
from univae.run_folder import RunFolder
from univae.text.corpus import split

__all__ = ["GanData", "TrainingRows", "other_rows", "training_rows"]

FEWEST_TRAINING_ROWS = 20  # where batches are smaller
FEWEST_HELD_OUT = 2  # rows
MOST_HELD_OUT = 5000  # rows that metrics use


@dataclass(frozen=True, kw_only=True)
class GanData:
    """The images or table rows to train on, and the metrics of generated rows against them."""

    data: Annotated[str, Doc(SOURCES)]
    held_out: float = 0.1  # fraction of the rows held out of training, to detect memorised rows
    # feature space of the metrics: auto, the features/ folder of another run, or
    # package.module:name of a network that can be imported
    features: str = "auto"
    feature_steps: int = 400  # training steps of the classifier that --features auto trains
    # generated rows per validation, and as many real ones; more: less noisy metrics, slower
    validation_data: int = 2000

    RULES: ClassVar[Mapping[str, Rule]] = {
        "held_out": within("(0, 1)", "a fraction of the rows"),
        "feature_steps": at_least(1),
        "validation_data": at_least(10, 10**7),
    }

    def __post_init__(self) -> None:
        check(self)
        if not self.features:
            raise InputError(
                "features must be auto, a folder or package.module:name; got features=''"
            )


class TrainingRows(NamedTuple):
    """Data in the units of the networks, and their split."""

    data: Data
    rows: np.ndarray  # indices of the training rows
    held_out: Tensor  # held-out rows in the units of the networks


def training_rows(
    source: GanData,
    batch_size: int,
    seed: int,
    run: RunFolder | None = None,
    images: ImageFiles | None = None,
    origin: RunFolder | None = None,
) -> TrainingRows:
    """Read the data in the units of ``run``, by default of a new run, and split them.

    Args:
        source: the options that name the data.
        batch_size: rows of a batch.
        seed: of the choice of held-out rows.
        run: the run that is resumed, or opened again; None for a new one.
        images: the reader of image files, which must be that of ``run``; None: one without options.
        origin: the run whose weights a new one starts from, and whose units it has.

    Raises:
        InputError: the data differ from those of ``run``, have too few rows, or all rows are equal.
    """
    images = images or ImageFiles()
    if run is not None:
        require_same_reading(run, images.reading)
    data = as_numbers(read_training_set(source.data, images), "a GAN")
    if run is not None and run.data_record():
        record = {**run.data_record(), "data": describe(data, source.data)}
        Run(run.path, {"resume": True}).record_data(record)
    if origin is not None:
        _require_kind_of(origin, data, source)
    data = in_units_of(data, run or origin)
    rows, held_out_rows = split(len(data), source.held_out, seed)
    _require_enough(source, batch_size, rows, held_out_rows)
    if all_alike(data):
        raise InputError(
            f"--data {source.data}: all {len(data)} rows are alike; give data that differ"
        )
    return TrainingRows(data, rows, gan_rows(data, held_out_rows[:MOST_HELD_OUT]))


def other_rows(data: Data, source: GanData, seed: int, run: RunFolder) -> TrainingRows:
    """Split other real data, of the shape and levels of a run, as its training data were."""
    data = in_units_of(data, run)
    rows, held_out_rows = split(len(data), source.held_out, seed)
    return TrainingRows(data, rows, gan_rows(data, held_out_rows[:MOST_HELD_OUT]))


def _require_kind_of(origin: RunFolder, data: Data, source: GanData) -> None:
    """Raise InputError where a row has another shape or other units than those of ``origin``."""
    record = origin.data_record()
    if not record:
        return
    units = without_rows(record["data"])
    who = f"--data {source.data}"
    whose = f"the run {origin.path}"
    if units.shape != data.shape:
        raise InputError(f"{who}: a row is {data.shape}, that of {whose} is {units.shape}")
    if (units.levels is None) != (data.levels is None):
        kinds = ["grey levels", "real numbers"]
        held = kinds[data.levels is None]
        raise InputError(f"{who}: holds {held}, {whose} has {kinds[units.levels is None]}; convert")


def _require_enough(
    source: GanData, batch_size: int, rows: np.ndarray, held_out_rows: np.ndarray
) -> None:
    fewest = max(FEWEST_TRAINING_ROWS, batch_size)
    if len(rows) < fewest:
        raise InputError(
            f"--batch-size {batch_size} needs {fewest} training rows; --data {source.data} leaves "
            f"{len(rows)}; give more rows, or a smaller --batch-size"
        )
    if len(held_out_rows) < FEWEST_HELD_OUT:
        raise InputError(
            f"--held-out {source.held_out:g} of --data {source.data} gives {len(held_out_rows)} "
            f"held-out rows; at least {FEWEST_HELD_OUT} are needed"
        )
