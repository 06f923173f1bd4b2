"""Grids of latent layers in the order of the prior: its quantiles, or those of its samples."""

from functools import partial
from typing import NamedTuple

import numpy as np
from torch.distributions import Distribution

from density.coding.buckets import BucketGrid
from density.coding.gaussians import Gaussians, Layered, as_gaussians, climb

__all__ = ["PRIOR", "Layout", "prior_layout"]

DRAWS = 1024  # from the prior, for the grids of layers below another

SMALLEST_SCALE = 1e-30  # of a grid: a constant layer has a deviation of 0

PRIOR = "the prior"  # in errors


class Layout(NamedTuple):
    """The order, uniform layers and grids of a prior."""

    order: list[int]  # of the climb of the prior
    uniform: frozenset[int]  # layers whose grid is that of their prior: buckets are equally likely
    grids: list[BucketGrid]


def prior_layout(prior: Distribution, slices: list[slice]) -> Layout:
    """Return the layout of a prior whose layers lie at ``slices`` of the latents.

    Raises:
        InputError: a layer is not a diagonal Gaussian, or not finite.
    """
    layers = range(len(slices))
    if not isinstance(prior, Layered):
        mean, scale = as_gaussians(prior, 1, PRIOR)
        grids = [BucketGrid(mean[0, columns], scale[0, columns]) for columns in slices]
        return Layout(list(layers), frozenset(layers), grids)

    record = climb(prior, DRAWS, partial(_draw, np.random.default_rng(0)), PRIOR)
    order = list(record.conditionals)
    first = order[0]
    top = record.conditionals[first]
    by_layer = {first: BucketGrid(top.mean[0], top.scale[0])}
    for layer in order[1:]:
        z = record.values[layer]
        by_layer[layer] = BucketGrid(*_rounded(z.mean(0), z.std(0)))
    return Layout(order, frozenset([first]), [by_layer[layer] for layer in layers])


def _draw(generator: np.random.Generator, layer: int, gaussian: Gaussians) -> np.ndarray:
    samples: np.ndarray = gaussian.mean + gaussian.scale * generator.standard_normal(
        gaussian.mean.shape
    )
    return samples


def _rounded(mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale rounded up to quarters of an octave, the mean to eighths of that scale."""
    scale = np.exp2(np.ceil(4 * np.log2(np.maximum(scale, SMALLEST_SCALE))) / 4)
    return np.round(8 * mean / scale) * scale / 8, scale
