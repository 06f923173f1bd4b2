"""Black and white from grey levels, drawn once for all epochs or for every batch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from experiments.data.arrays import CHUNK, Data
from univae.errors import InputError

__all__ = ["binarise", "redraw"]

Threshold = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

SEEDS = 2**64  # NumPy takes no negative seed


def _uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.random(shape, np.float32)


def _half(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


# The grey value in [0, 1] above which a pixel is white.
THRESHOLDS: Mapping[str, Threshold] = {"static": _uniform, "threshold": _half}


def binarise(data: Data, how: Literal["static", "threshold"], seed: int = 0) -> Data:
    r"""Return the data with every pixel 0 or 1: another data set, with another likelihood.

    ``static`` draws each pixel, 1 with probability grey / (levels - 1), from ``seed``;
    ``threshold`` is 1 above half of levels - 1. For a new sample in every batch, on which most
    published likelihoods are trained, see :func:`redraw`.

    Raises:
        InputError: the data are real numbers.

    References:
        On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008)
    """
    white = _white(data.levels)
    generator = np.random.default_rng(seed % SEEDS)
    threshold = THRESHOLDS[how]

    binary = np.empty(data.values.shape, np.uint8)
    for start in range(0, len(data), CHUNK):
        grey = data.values[start : start + CHUNK] / np.float32(white)
        binary[start : start + CHUNK] = grey > threshold(generator, grey.shape)

    name = f"{data.name}, {how} binarisation"
    return replace(data, values=binary, levels=2, name=name, original=None)


def redraw(x: Tensor, levels: int | None) -> Tensor:
    """Draw each pixel of a batch from a Bernoulli distribution of mean grey / (levels - 1).

    The samples come from PyTorch's global generator.

    Raises:
        InputError: ``levels`` is None, so the batch holds real numbers.
    """
    return torch.bernoulli(x / _white(levels))


def _white(levels: int | None) -> int:
    if levels is None:
        raise InputError(
            "--binarisation needs grey levels; got real numbers; choose a likelihood for real data"
        )
    return levels - 1
