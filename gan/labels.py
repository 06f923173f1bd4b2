"""Class labels as users give them: numbers or names, one for all rows or one for each."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from univae.errors import InputError

__all__ = ["Labels", "class_numbers"]

SHOWN = 60  # characters of a wrong value in a message

Labels: TypeAlias = Any  # a number, a name, or an array of them


def class_numbers(labels: Labels, count: int, classes: int, names: Sequence[str]) -> Tensor:
    """Return the numbers of the classes (count,) that ``labels`` give.

    Args:
        labels: numbers or names, one for all rows or one for each.
        count: the number of rows.
        classes: the number of classes of the model.
        names: the names of the classes 0, 1, ...; empty where they have none.

    Raises:
        InputError: a label is no class, or there are neither one nor ``count`` labels.
    """
    given = np.asarray(labels)
    if given.shape not in ((), (1,), (count,)):
        raise InputError(
            f"sample: labels must be one class, or {count} of them, one for each row; "
            f"got shape {given.shape}"
        )
    numbers = [_class_number(label, classes, names) for label in given.ravel().tolist()]
    return torch.tensor(numbers).expand(count)


def _class_number(label: object, classes: int, names: Sequence[str]) -> int:
    """Return the number of a class that is given by its number or its name."""
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < classes:
        return label
    known = f", or one of {', '.join(names)}" if names else ""
    raise InputError(
        f"sample: labels must be whole numbers in 0..{classes - 1}{known}; "
        f"got {repr(label)[:SHOWN]}"
    )
