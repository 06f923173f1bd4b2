"""Images and tables in the units of a run: its levels and centre, black and white or not."""

from dataclasses import replace
from typing import cast

import numpy as np

from density.trained import TrainedDensity
from experiments.data.arrays import Data, refuse_beyond_float32
from experiments.data.records import without_rows
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
]


def centred(data: Data, run: RunFolder | None) -> Data:
    """Return data as a run's model takes them: columns of real numbers less their mean, in float64.

    A density does not change with its origin. The means are those of the run's training set, or the
    data's own where the run is yet to start; a run of version 0.1.0 has none.
    """
    if data.kind != "table" or data.levels is not None:
        return data
    if run is None:
        return replace(
            data, centre=np.asarray(data.values.mean(0, dtype=np.float64)), original=None
        )
    record = run.data_record()
    return (
        replace(data, centre=without_rows(record["data"]).centre, original=None) if record else data
    )


def as_training_set(data: Data, train: Data, who: str, whose: str) -> Data:
    """Return data with the levels and centre of a training set, and a note of what that assumes.

    A reader cannot tell the 17 levels of one set from the first 17 of another's 256, and 0 and 255
    may be black and white: what the training set was decides. ``who`` names the data in errors,
    ``whose`` the training set.

    Raises:
        InputError: the shape is another, or real numbers meet levels.
    """
    if data.shape != train.shape:
        raise InputError(f"{who}: a datum is {data.shape}, {whose} has {train.shape}")
    if train.levels is None:
        if data.levels is not None and data.kind == "images":
            data = data.noted(
                f"{data.name}: whole numbers, taken for real ones as those of the training set are"
            )
        return replace(data, levels=None, centre=train.centre)
    if data.levels is None:
        raise InputError(
            f"{who}: real numbers, but {whose} has the levels 0..{train.levels - 1}; convert them"
        )
    if data.one_bit and train.levels > 2:
        white = train.levels - 1
        values = np.asarray(data.values) * np.uint8(white)
        note = (
            f"{data.name}: 1 bit a pixel, read as 0 and {white} "
            f"of the {train.levels} levels of the training set"
        )
        return replace(
            data, values=values, levels=train.levels, original=None, one_bit=False
        ).noted(note)
    if data.levels <= train.levels:
        return data
    highest = int(data.values.max())
    if highest < train.levels:
        note = (
            f"{data.name}: 0..{highest} are read as {train.levels} levels, "
            "as those of the training set are"
        )
        return replace(data, levels=train.levels).noted(note)
    if train.levels == 2 and black_and_white(data.values):
        values = (np.asarray(data.values) // WHITE).astype(np.uint8)
        note = f"{data.name}: 0 and 255 are read as black and white, as the training set is"
        return replace(data, values=values, levels=2, original=None).noted(note)
    return data


def fit_to(run: TrainedDensity, data: Data) -> Data:
    """Return data as a run's model takes them: of its shape, levels and centre, and binarised.

    Raises:
        InputError: the shape is another, or a value is none of the model's pixel distribution.
    """
    pixels = run.model.output.pixels
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
