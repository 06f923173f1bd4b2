"""Images and tables in the units of a run: its levels, centre and binarisation."""

from dataclasses import replace
from typing import cast

import numpy as np

from density.likelihoods.distributions import BINARY
from density.trained import TrainedDensity
from experiments.data.arrays import Data, refuse_beyond_float32
from experiments.data.image_files import ImageFiles
from experiments.data.readers import read
from experiments.data.records import without_rows
from experiments.data.table_files import as_data, as_numbers
from experiments.images.binarisation import BINARISATIONS, WHITE, black_and_white, require_levels
from experiments.images.task import ImageObjective
from experiments.training.settings import Settings
from univae.errors import InputError
from univae.rules import reading
from univae.run_folder import RunFolder, stored_value

__all__ = [
    "WHITE",
    "as_training_set",
    "black_and_white",
    "centred",
    "fit_to",
    "read_for",
    "read_stored",
]


def centred(data: Data, run: RunFolder | None) -> Data:
    """Return a table with the mean of each real column as its ``centre``; other data unchanged.

    Counts and categories have the centre 0. The means are those of the training set of ``run``, or
    of ``data`` if there is no run yet. They are subtracted in float64, which does not change a
    density. A run of version 0.1.0 has none.
    """
    if data.is_images or data.levels is not None:
        return data
    if run is None:
        return replace(data, centre=_means(data), original=None)
    record = run.data_record()
    if not record:
        return data
    return replace(data, centre=without_rows(record["data"]).centre, original=None)


def _means(data: Data) -> np.ndarray:
    """Return the mean of the observed cells of each real column, 0 for counts and categories."""
    if data.columns is None:
        return np.asarray(data.values.mean(0, dtype=np.float64))
    is_numeric = np.array([kind == "numeric" for kind in data.columns.kinds])
    return np.where(is_numeric, np.nanmean(data.values, axis=0), 0.0)


def as_training_set(data: Data, train: Data, who: str, whose: str) -> Data:
    """Return data with the levels and centre of a training set, and a note on assumptions.

    The levels of a file are ambiguous: 17 levels of one set look like the first 17 of another's
    256, and 0 and 255 may be black and white. The training set decides.

    Args:
        data: the data to convert.
        train: the training set, of which only shape and units are read.
        who: the data, for messages.
        whose: the training set, for messages.

    Raises:
        InputError: the shape is another, or the data are real numbers and the training set is not.
    """
    if data.shape != train.shape:
        raise InputError(f"{who}: a datum is {data.shape}, {whose} has {train.shape}")
    data = _with_columns(data, train, who, whose)
    if train.levels is None:
        if data.levels is not None and data.is_images:
            data = data.noted(
                f"{data.name}: whole numbers, taken for real ones as those of the training set are"
            )
        return replace(data, levels=None, centre=train.centre)
    if data.levels is None:
        raise InputError(
            f"{who}: real numbers, but {whose} has the levels 0..{train.levels - 1}; convert them"
        )
    if data.one_bit and train.levels > BINARY:
        return _spread_bits(data, train.levels)
    return _with_levels(data, data.levels, train.levels)


def _with_columns(data: Data, train: Data, who: str, whose: str) -> Data:
    """Return data with the schema of a training set, or without one where that has none.

    Numbers without names are taken for the columns of a training set in their order.
    """
    if train.columns is None:
        return replace(as_numbers(data, whose), columns=None)
    if data.columns is None and not train.columns.all_numeric:
        raise InputError(
            f"{who}: numbers without column names, but {whose} has columns of several kinds "
            f"({', '.join(train.columns.names)}); give a .csv, .tsv or .parquet"
        )
    if data.columns is not None and data.columns != train.columns:
        raise InputError(f"{who}: its columns were not read with the schema of {whose}")
    return replace(data, columns=train.columns)


def read_stored(run: TrainedDensity, source: str) -> Data:
    """Read data as files have them, by the options of images and the schema of the run.

    Raises:
        InputError: see :func:`experiments.data.readers.read`.
    """
    return read(source, ImageFiles.of_run(run.folder), run.columns)


def read_for(run: TrainedDensity, source: str) -> Data:
    """Read data as the input of a run's model, tables with the schema of the run.

    Raises:
        InputError: see :func:`experiments.data.readers.read` and :func:`fit_to`.
    """
    return fit_to(run, read_stored(run, source))


def _spread_bits(data: Data, levels: int) -> Data:
    """Return images of 1 bit a pixel as black and white of ``levels``."""
    white = levels - 1
    values = np.asarray(data.values) * np.uint8(white)
    note = (
        f"{data.name}: 1 bit a pixel, read as 0 and {white} "
        f"of the {levels} levels of the training set"
    )
    spread = replace(data, values=values, levels=levels, original=None, one_bit=False)
    return spread.noted(note)


def _with_levels(data: Data, file_levels: int, levels: int) -> Data:
    """Return data in ``levels`` if their values allow it, otherwise unchanged."""
    if file_levels <= levels:
        return data
    highest = int(data.values.max())
    if highest < levels:
        note = (
            f"{data.name}: 0..{highest} are read as {levels} levels, "
            "as those of the training set are"
        )
        return replace(data, levels=levels).noted(note)
    if levels == BINARY and black_and_white(data.values):
        values = (np.asarray(data.values) // WHITE).astype(np.uint8)
        note = f"{data.name}: 0 and 255 are read as black and white, as the training set is"
        return replace(data, values=values, levels=BINARY, original=None).noted(note)
    return data


def fit_to(run: TrainedDensity, data: Data) -> Data:
    """Return data as the input of a run's model: of its shape, levels, centre and binarisation.

    Raises:
        InputError: the shape is another, or the model gives a value no probability.
    """
    pixels = run.model.output.pixels
    if data.table is not None and run.columns is not None and data.columns != run.columns:
        data = as_data(data.table, run.columns, data.name)
    shape = tuple(pixels.shape)
    if data.shape != shape:
        raise InputError(
            f"{data.name}: a datum is {data.shape}, the model of {run.path} takes {shape}"
        )
    record = run.folder.data_record()
    if record:
        train = without_rows(record["data"])
        data = as_training_set(data, train, data.name, f"the training set of {run.path}")
    refuse_beyond_float32(data)
    with reading(run.path / "config.json"):
        name = cast("str", stored_value(run.folder, ImageObjective, "binarisation"))
        seed = cast("int", stored_value(run.folder, Settings, "seed"))
    binarisation = BINARISATIONS[name]
    binarisation.settled(data)
    if pixels.level_count is not None and data.levels is None:
        raise InputError(
            f"{data.name}: must hold the levels 0..{pixels.levels - 1}; "
            "it has real numbers; convert it"
        )
    data = binarisation.fixed(data, seed)
    require_levels(data, pixels.level_count, data.name)
    return data
