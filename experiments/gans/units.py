"""The units of the data that a GAN was trained on."""

from experiments.data.arrays import Data
from experiments.data.readers import read
from experiments.data.records import without_rows
from experiments.gans.scaling import in_units_of
from gan.trained import TrainedGan

__all__ = ["units_of"]


def units_of(run: TrainedGan) -> Data:
    """Return kind, shape and units of the data of a run, from its ``data.json``.

    A run of version 0.1.0 has none, so that its data are read again.
    """
    record = run.folder.data_record()
    if record:
        return without_rows(record["data"])
    return in_units_of(read(run.config["data"]), run.folder)
