"""Black and white from grey levels, drawn once for all epochs or for every batch."""

from dataclasses import replace

import torch
from torch import Tensor

from density.data_units import Binarisation, black_or_white
from experiments.data.arrays import Data
from univae.errors import InputError

__all__ = ["binarise", "redraw"]


def binarise(data: Data, how: Binarisation, seed: int = 0) -> Data:
    r"""Return the data with every pixel 0 or 1: another data set, with another likelihood.

    ``static`` draws each pixel, 1 with probability grey / (levels - 1), from ``seed``;
    ``threshold`` is 1 above half of levels - 1. For a new sample in every batch, on which most
    published likelihoods are trained, see :func:`redraw`.

    Raises:
        InputError: the data are real numbers.

    References:
        On the quantitative analysis of deep belief networks (Salakhutdinov & Murray, 2008)
    """
    levels = _white(data.levels) + 1
    binary = black_or_white(data.values, levels, how, seed)
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
