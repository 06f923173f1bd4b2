r"""Autoregressive pixels as a code: wave by wave, each level as digits.

The symbols of a tile are popped in the order of the waves of
:func:`density.likelihoods.autoregressive.waves`, those of a wave digit by digit. Files hold that
as another coder than that of raster order, which :class:`density.coding.pixels.PixelCode` reads.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from density.coding.ans import Intervals, Stack
from density.coding.finite import NotFinite, first_row
from density.coding.level_digits import has_digits, level_digits
from density.coding.pixels import PixelCode
from density.coding.wave_network import WaveNetwork, WaveStep
from density.likelihoods.autoregressive import CausalPixels
from density.likelihoods.head import Output
from density.model import LatentModel

__all__ = ["WaveCode", "has_waves"]


def has_waves(distribution: Distribution) -> bool:
    """Return whether a distribution is of autoregressive pixels that can be coded in waves."""
    if not isinstance(distribution, CausalPixels):
        return False
    head = distribution.head
    return isinstance(head, Output) and has_digits(head)


class WaveCode(PixelCode):
    """Code images of autoregressive pixels, wave by wave.

    Args:
        model: the model, in float64 on the CPU.
        joint: the distribution of one image by that model.
        shape: the shape of an image.
        levels: the levels of a pixel.
        tile: the images of a tile.
    """

    def __init__(
        self,
        model: LatentModel,
        joint: CausalPixels,
        shape: Sequence[int],
        levels: int,
        tile: int,
    ) -> None:
        super().__init__(model, shape, levels, tile)
        head = joint.head
        assert isinstance(head, Output)
        self.network = WaveNetwork(joint, head, tile)
        self.law = level_digits(head)

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        """Return the intervals of the digits of x in their tables, in the order of the waves."""
        levels = x.numpy().astype(np.int64).ravel()[self.network.order]
        image = self.network.order // self.dims
        prefixes, values = self._digits(levels)
        starts = []
        sizes = []
        rows = []
        self.network.start(self._joint(z))
        self.network.images[...] = x.numpy()
        with _quiet():
            for step in self.network.steps:
                parameters = self._parameters(step, count)
                coded = parameters.shape[1] // self.size * count
                index = np.arange(coded)
                for digit in range(self.law.digits):
                    value = values[digit][step.rows][:coded]
                    table = self.law.starts(parameters, digit, prefixes[digit][step.rows])
                    start = table[index, value]
                    starts.append(start)
                    sizes.append(table[index, value + 1] - start)
                    rows.append(image[step.rows][:coded])
        return Intervals(
            np.concatenate(starts).astype(np.int64),
            np.concatenate(sizes).astype(np.int64),
            np.concatenate(rows),
        )

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
        """Pop a tile whose :meth:`intervals` were pushed."""
        levels = np.zeros(len(self.network.order))
        self.network.start(self._joint(z))
        with _quiet():
            for step in self.network.steps:
                parameters = self._parameters(step, count)
                prefix = np.zeros(parameters.shape[1], np.int64)
                coded = len(prefix) // self.size * count
                for digit in range(self.law.digits):
                    table = self.law.starts(parameters, digit, prefix)[:coded]
                    value = stack.pop(table[:, 1:] - table[:, :-1])
                    if digit:
                        prefix *= self.law.radix
                    prefix[:coded] += value
                levels[step.rows] = prefix
                step.pixels[...] = prefix.reshape(step.pixels.shape)
        images = np.empty(len(levels))
        images[self.network.order] = levels
        return torch.from_numpy(images.reshape(self.size, *self.shape))

    def _joint(self, z: Tensor) -> CausalPixels:
        joint = self.model.likelihood(z)
        assert isinstance(joint, CausalPixels)
        return joint

    def _parameters(self, step: WaveStep, count: int) -> np.ndarray:
        """Return the parameters of the law for the values of a wave."""
        parameters = self.network.numbers(step)
        self.law.prepare(parameters)
        if not np.isfinite(parameters.sum()):
            by_image = parameters.reshape(len(parameters), self.size, -1)[:, :count]
            is_finite = np.isfinite(by_image).all(0)
            if not is_finite.all():
                raise NotFinite(
                    "the distribution of the pixels has no finite probabilities",
                    first_row(is_finite),
                )
        return parameters

    def _digits(self, levels: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return each digit of levels, after the number that the digits before it make."""
        prefixes = []
        values = []
        for digit in range(self.law.digits):
            upper = levels // self.law.radix ** (self.law.digits - digit - 1)
            prefix, value = np.divmod(upper, self.law.radix)
            prefixes.append(prefix)
            values.append(value)
        return prefixes, values


def _quiet() -> AbstractContextManager[None]:
    """Allow overflow and NaN: of edges far from a mean, and of models that are refused."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")
