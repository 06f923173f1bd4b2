r"""Bit-Swap: the layers of a chain return their bits one by one.

In a chain, :math:`q(z_{l+1} \mid z_l)`, :math:`p(z_l \mid z_{l+1})` and :math:`p(x \mid z_1)` look
at one neighbour. What lies below a layer may then be pushed before the next layer is popped, so the
initial bits are those of one layer:

========================================================  ================================
push (read downward)                                       pop (read upward)
========================================================  ================================
pop :math:`z_1` by :math:`q(z_1 \mid x)`                   push :math:`z_1`
push x by :math:`p(x \mid z_1)`                            pop x
pop :math:`z_2` by :math:`q(z_2 \mid z_1)`                 push :math:`z_2`
push :math:`z_1` by :math:`p(z_1 \mid z_2)`                pop :math:`z_1`
push :math:`z_2` by :math:`p(z_2)`                         pop :math:`z_2`
========================================================  ================================

What a law does not look at is filled with the middle bucket, in both directions.

References:
    Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with Hierarchical Latent Variables
    (Kingma et al., 2019), https://arxiv.org/abs/1905.06845
"""

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from density.coding.ans import PRECISION, SPARE, TOTAL, Stack, whole
from density.coding.data_code import Emission, noise
from density.coding.latents import Layers, coordinates
from density.model import LatentModel

__all__ = ["BitSwap"]


class BitSwap:
    """Codes a tile of data by a model whose ``chain`` says that it is one."""

    def __init__(self, model: LatentModel, emission: Emission, layers: Layers) -> None:
        self.model = model
        self.emission = emission
        self.layers = layers
        self.top = len(layers.widths) - 1

    def push(self, stack: Stack, x: Tensor, count: int) -> None:
        layers = self.layers
        bucket = self.layers.middle()

        def swap(layer: int, law: Distribution) -> None:
            own = layers.slices[layer]
            grid = layers.grids[layer]
            mean, scale = coordinates(law, layers.tile, count)
            stack.require(PRECISION * mean.size + SPARE)
            position = stack.pop_uniform(whole(mean.size)).reshape(mean.shape)
            position = (position + self._noise(layer, x, bucket, count)) % TOTAL
            bucket[:count, own] = grid.find(position, mean, scale)
            start, size = grid.interval(bucket[:count, own], mean, scale)
            stack.push_uniform((position - start).ravel(), size.ravel())
            if layer == 0:
                stack.push(self.emission.intervals(layers.latent(layers.only(bucket, 0)), x, count))
            else:
                below = layers.prior_intervals(layers.only(bucket, layer - 1, layer), count)[
                    layer - 1
                ]
                layers.push(stack, layer - 1, bucket[:count], below)

        layers.walk(self.model.posterior(x), bucket, swap)
        layers.push(stack, self.top, bucket[:count], None)

    def pop(self, stack: Stack, count: int) -> Tensor:
        layers = self.layers
        bucket = self.layers.middle()
        blank = self.emission.tile(None)
        for layer in range(self.top, -1, -1):
            law = layers.prior_law(layer, layers.only(bucket, layer + 1))
            bucket[:count, layers.slices[layer]] = layers.pop(stack, layer, law, count)
            if layer < self.top:
                self._return(stack, blank, layer + 1, bucket, count)
        x = self.emission.pop(stack, layers.latent(layers.only(bucket, 0)), count)
        self._return(stack, x, 0, bucket, count)
        return x

    def _return(self, stack: Stack, x: Tensor, layer: int, bucket: np.ndarray, count: int) -> None:
        """Push the position from which a layer was popped; only the lowest looks at x."""
        layers = self.layers
        own = self.layers.slices[layer]
        start, size = layers.given(
            self.model.posterior(x), layers.only(bucket, layer - 1, layer), count
        )
        offset = stack.pop_uniform(size[:, own].ravel()).reshape(count, -1)
        position = (start[:, own] + offset - self._noise(layer, x, bucket, count)) % TOTAL
        stack.push_uniform(position.ravel(), whole(position.size))

    def _noise(self, layer: int, x: Tensor, bucket: np.ndarray, count: int) -> np.ndarray:
        """A function of what the layer's posterior looks at."""
        below = torch.from_numpy(bucket[:, self.layers.slices[layer - 1]]) if layer else x
        return noise(below, count, self.layers.widths[layer])
