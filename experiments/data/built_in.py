"""The registry of data sets that need no file: ``BUILT_IN``, by the name that ``--data`` takes.

A new set is a new row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from experiments.data.arrays import Data

__all__ = ["BUILT_IN", "BuiltIn"]

DIGIT_LEVELS = 17  # of scikit-learn's digits
BYTE_LEVELS = 256


@dataclass(frozen=True)
class BuiltIn:
    """A data set that comes with a library or is generated."""

    summary: str
    load: Callable[[], Data]


def _digits() -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    return Data(images, DIGIT_LEVELS, digits.target, "digits", "images")


def _table(name: str) -> Data:
    from sklearn import datasets

    values, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    return Data(values, None, labels, name, "table")


def _glyphs() -> Data:
    from experiments.data.glyphs import glyphs

    values, labels = glyphs()
    return Data(values, BYTE_LEVELS, labels, "glyphs", "images")


def _stacked_glyphs() -> Data:
    from experiments.data.glyphs import stacked

    values, labels = stacked()
    return Data(values, BYTE_LEVELS, labels, "stacked-glyphs", "images", channels_of="glyphs")


def _table_row(name: str, summary: str) -> BuiltIn:
    return BuiltIn(summary, partial(_table, name))


BUILT_IN: Mapping[str, BuiltIn] = {
    "digits": BuiltIn("1,797 handwritten digits, 8x8 pixels of 17 levels", _digits),
    "glyphs": BuiltIn("22,000 printed digits, 28x28 pixels of 256 levels", _glyphs),
    "stacked-glyphs": BuiltIn(
        "30,000 images of three such digits as channels: 1,000 known modes", _stacked_glyphs
    ),
    "breast_cancer": _table_row("breast_cancer", "569 rows of 30 columns, 2 classes"),
    "diabetes": _table_row("diabetes", "442 rows of 10 columns, a real target"),
    "iris": _table_row("iris", "150 rows of 4 columns, 3 classes"),
    "wine": _table_row("wine", "178 rows of 13 columns, 3 classes"),
}
