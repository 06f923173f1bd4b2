"""The code of a model of whole numbers: in one step, in raster order, or wave by wave."""

from dataclasses import replace

import torch
from torch import Size
from torch.distributions import Distribution

from density.coding.data_code import Coding
from density.coding.fields import damaged
from density.coding.pixels import PixelCode, shape_and_levels
from density.coding.waves import WaveCode, has_waves
from density.likelihoods.autoregressive import CausalPixels
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["pixel_code", "with_waves"]


def pixel_code(
    model: LatentModel, shape: tuple[int, ...], tile: int, *, waves: bool = False
) -> PixelCode:
    """Return the code of a model of whole numbers.

    Args:
        model: the model, in float64 on the CPU.
        shape: the shape of a row.
        tile: the rows coded together.
        waves: whether autoregressive pixels are coded wave by wave, see :func:`with_waves`.

    Raises:
        InputError: the shape of the model's rows is not ``shape``, or its pixels have no waves.
    """
    distribution = _distribution(model)
    model_shape, levels = shape_and_levels(distribution)
    if model_shape != tuple(shape):
        raise InputError(
            f"compress: the model's data are {model_shape} each; got {tuple(shape)}; reshape them"
        )
    if not waves:
        return PixelCode(model, shape, levels, tile)
    if not has_waves(distribution):
        raise damaged("it declares autoregressive pixels, and the model has none")
    assert isinstance(distribution, CausalPixels)
    return WaveCode(model, distribution, shape, levels, tile)


def with_waves(coding: Coding, model: LatentModel) -> Coding:
    """Return a coding for new files: with waves if the model's pixels are autoregressive."""
    return replace(coding, waves=has_waves(_distribution(model)))


def _distribution(model: LatentModel) -> Distribution:
    """Return the distribution of a row, given latents from the prior."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        z = model.prior().sample(Size((1,))).to(torch.float64)  # as latents are, see Layers.latent
        return model.likelihood(z)
