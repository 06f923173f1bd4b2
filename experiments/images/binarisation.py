"""The registry of binarisations, for ``--binarisation``: when grey levels become black or white.

A row of :data:`BINARISATIONS` returns the data set of training and that of validations from the
data as they were read.

References:
    On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008)
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
from torch import Tensor

from density.likelihoods.distributions import BINARY
from experiments.data.arrays import CHUNK, Data
from experiments.data.binarisation import binarise, redraw
from univae.dtypes import is_float_array
from univae.errors import InputError

__all__ = [
    "BINARISATIONS",
    "WHITE",
    "Binarisation",
    "BinarisationName",
    "black_and_white",
    "require_levels",
]

WHITE = 255  # of black and white images of 8 bits, as decompress writes them


class Binarisation(ABC):
    """A way to turn grey levels black or white, or to leave them."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def settled(self, data: Data) -> str:
        """Return the name of the row to train with; ``auto`` depends on the data.

        Raises:
            InputError: the data are real numbers, which cannot be black or white.
        """
        if data.levels is None:
            raise InputError(
                f"binarisation={self.name} needs grey levels; {data.name} has real numbers; "
                "give --binarisation none"
            )
        return self.name

    @abstractmethod
    def fixed(self, data: Data, seed: int) -> Data:
        """Return the data of validations and scores, the same at every call."""

    def training_set(self, data: Data, seed: int) -> Data:
        """Return the data of training, before :meth:`visit`."""
        return self.fixed(data, seed)

    def visit(self, x: Tensor, levels: int | None) -> Tensor:
        """Return a batch of the training set as the model's input in one epoch."""
        return x

    def marginal_rows(self, x: Tensor, levels: int | None) -> Tensor:
        """Return the expectation of :meth:`visit` for rows of the training set."""
        return x

    def level_count(self, levels: int | None) -> int | None:
        """Return the levels of the model's input for data with ``levels``; None: real numbers."""
        return BINARY

    @property
    def is_binary(self) -> bool:
        """Whether the model's input is black and white."""
        return True


class _Unchanged(Binarisation):
    name = "none"
    summary = "data unchanged"

    def settled(self, data: Data) -> str:
        return self.name

    def fixed(self, data: Data, seed: int) -> Data:
        return data

    def level_count(self, levels: int | None) -> int | None:
        return levels

    @property
    def is_binary(self) -> bool:
        return False


class _Dynamic(Binarisation):
    name = "dynamic"
    summary = "drawn again in every epoch"

    def fixed(self, data: Data, seed: int) -> Data:
        return binarise(data, "static", seed)

    def training_set(self, data: Data, seed: int) -> Data:
        return data

    def visit(self, x: Tensor, levels: int | None) -> Tensor:
        return redraw(x, levels)

    def marginal_rows(self, x: Tensor, levels: int | None) -> Tensor:
        return x / (levels - 1) if levels else x


class _Auto(_Dynamic):
    name = "auto"
    summary = "dynamic, of real numbers none"

    def settled(self, data: Data) -> str:
        return _Unchanged.name if data.levels is None else _Dynamic.name


class _Static(Binarisation):
    name = "static"
    summary = "drawn once"

    def fixed(self, data: Data, seed: int) -> Data:
        return binarise(data, "static", seed)


class _Threshold(Binarisation):
    name = "threshold"
    summary = "white above half of the levels"

    def fixed(self, data: Data, seed: int) -> Data:
        return binarise(data, "threshold", seed)


BINARISATIONS: Mapping[str, Binarisation] = {
    row.name: row for row in (_Unchanged(), _Auto(), _Dynamic(), _Static(), _Threshold())
}

if TYPE_CHECKING:
    BinarisationName: TypeAlias = str
else:
    BinarisationName = Literal[tuple(BINARISATIONS)]


def require_levels(data: Data, levels: int | None, who: str) -> None:
    """Raise :class:`InputError` for a value above ``levels`` - 1; None allows all.

    ``who`` names the data in the message.
    """
    if levels is None or data.levels is None or data.levels <= levels:
        return
    highest = int(data.values.max())
    if highest >= levels:
        raise InputError(
            f"{who}: must hold the levels 0..{levels - 1}; got {highest}; binarise or rescale it"
        )


def black_and_white(values: np.ndarray) -> bool:
    """Return whether numbers are all 0 or 255, and 255 among them; -0.0 is neither."""
    has_white = False
    for start in range(0, len(values), CHUNK):
        chunk = np.asarray(values[start : start + CHUNK])
        if not ((chunk == 0) | (chunk == WHITE)).all():
            return False
        if is_float_array(chunk) and np.signbit(chunk).any():
            return False
        has_white = has_white or bool((chunk == WHITE).any())
    return has_white
