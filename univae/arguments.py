"""Checks of the arguments that methods of runs have in common."""

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np

from univae.errors import InputError

__all__ = ["as_layers", "whole_number"]

Argument: TypeAlias = Any  # what a caller gave


def whole_number(who: str, name: str, value: Argument, least: int = 1) -> int:
    """Return an argument that must be a whole number of at least ``least``.

    Args:
        who: the method that takes it, for messages.
        name: the name of the argument.
        value: the argument.
        least: the smallest value that is allowed.

    Raises:
        InputError: it is no whole number (True and 3.0 are none), or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(
            f"{who}: {name} must be a whole number of at least {least}; got {name}={value!r}"
        )
    if value < least:
        raise InputError(f"{who}: {name} must be at least {least}; got {name}={value}")
    return int(value)


def as_layers(who: str, layers: Argument) -> Collection[int]:
    """Return the numbers of latent layers; one number is a layer alone.

    Raises:
        InputError: a layer is no whole number of at least 0.
    """
    alone = isinstance(layers, str) or not hasattr(layers, "__iter__")
    return [whole_number(who, "layers", layer, 0) for layer in ([layers] if alone else layers)]
