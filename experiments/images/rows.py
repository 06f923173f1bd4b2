"""The images or rows that a command reads for a VAE: as files have them, and as models do."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from density.trained import TrainedDensity
from experiments.data.built_in import BUILT_IN
from experiments.images.run import fit_to, read_stored
from univae.errors import InputError

__all__ = ["Rows", "row_number"]


class Rows:
    """The data of a source, by default those that the run was trained on.

    Args:
        run: the run, in whose units the data are.
        source: any source of train-density; empty: the training data of the run.

    Raises:
        InputError: the source cannot be read, or its data do not fit the run.
    """

    def __init__(self, run: TrainedDensity, source: str = "") -> None:
        self.run = run
        self.source = source or _own_source(run)
        self.stored = read_stored(run, self.source)
        self.data = fit_to(run, self.stored)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def notes(self) -> list[str]:
        """What was left out or assumed while the data were read, a line each."""
        return list(self.data.notes)

    def inputs(self, rows: Sequence[int] | slice) -> Tensor:
        r"""Return rows as the input of the model, (N, \*shape)."""
        return self.data.batch(rows)

    def originals(self, rows: Sequence[int] | slice) -> np.ndarray:
        r"""Return rows (N, \*shape) in the units of the data, grey where the model's are binary."""
        if self.stored.levels == self.run.units.levels:
            return np.array(self.stored.values[rows])
        return self.run.from_model(self.inputs(rows))


def row_number(rows: Rows, name: str, value: str) -> int:
    """Return the number of a row that an argument names.

    Raises:
        InputError: the argument is no number of a row.
    """
    if not value.isdecimal() or int(value) >= len(rows):
        raise InputError(
            f"{name} must be the number of a row of {rows.source}, 0..{len(rows) - 1}; "
            f"got {name}={value}"
        )
    return int(value)


def _own_source(run: TrainedDensity) -> str:
    """Return the source that a run was trained on."""
    source = str(run.config.get("data", ""))
    if source in BUILT_IN or (source and Path(source).exists()):
        return source
    raise InputError(
        f"{run.path} was trained on {source or 'data without a name'}, which is not there; "
        "give --data"
    )
