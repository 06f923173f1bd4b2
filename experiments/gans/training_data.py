"""The rows that a GAN trains on, and those that tell copies from new data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from torch import Tensor
from typing_extensions import Doc

from experiments.data.arrays import Data, all_alike
from experiments.data.readers import SOURCES, read
from experiments.data.records import describe
from experiments.gans.scaling import gan_rows, in_units_of
from experiments.training.run_folder import Run
from univae.errors import InputError
from univae.rules import Rule, at_least, check, within
from univae.run_folder import RunFolder
from univae.text.corpus import split

__all__ = ["GanData", "TrainingRows", "training_rows"]

FEWEST = 20  # rows to train on, where batches are smaller
FEWEST_HELD_OUT = 2
MOST_HELD_OUT = 5000  # held-out rows that are looked at


@dataclass(frozen=True, kw_only=True)
class GanData:
    """The images or rows to train on, and how what is generated is compared with them."""

    data: Annotated[str, Doc(SOURCES)]
    held_out: float = 0.1  # share of the data that is not trained on, to tell copies from new data
    # auto, the features/ folder of another run, or package.module:name of a network of yours
    features: str = "auto"
    feature_steps: int = 400  # of training the classifier that auto means for labelled images
    validation_data: int = 2000  # generated rows that a validation measures, and as many real ones

    RULES: ClassVar[Mapping[str, Rule]] = {
        "held_out": within("(0, 1)", "a share of the data"),
        "feature_steps": at_least(1),
        "validation_data": at_least(10, 10**7),
    }

    def __post_init__(self) -> None:
        check(self)
        if not self.features:
            raise InputError("features must be auto, a folder or a module:name; got features=''")


class TrainingRows(NamedTuple):
    """Data in the units that the networks see, and their split."""

    data: Data
    rows: np.ndarray  # indices to train on
    held_out: Tensor  # as the networks see them


def training_rows(
    source: GanData, batch_size: int, seed: int, run: RunFolder | None = None
) -> TrainingRows:
    """Read the data, in the units of ``run`` or of a new one, and hold some rows out.

    Raises:
        InputError: the data are not those of ``run``, too few, or all alike.
    """
    data = read(source.data)
    if run is not None and run.data_record():
        record = {**run.data_record(), "data": describe(data, source.data)}
        Run(run.path, {"resume": True}).record_data(record)
    data = in_units_of(data, run)
    rows, held_out_rows = split(len(data), source.held_out, seed)
    fewest = max(FEWEST, batch_size)
    if len(rows) < fewest:
        raise InputError(
            f"needs {fewest} data to train on, a batch at least; {data.name} leaves {len(rows)}"
        )
    if len(held_out_rows) < FEWEST_HELD_OUT:
        share = f"{len(data)} rows with --held-out {source.held_out:g}"
        raise InputError(
            f"{FEWEST_HELD_OUT} held-out rows are needed; {share} give {len(held_out_rows)}"
        )
    if all_alike(data):
        raise InputError(
            f"--data {source.data}: all {len(data)} rows are alike; give data that differ"
        )
    return TrainingRows(data, rows, gan_rows(data, held_out_rows[:MOST_HELD_OUT]))
