r"""Bit-Swap: bits-back coding of a chain of layers, one layer at a time.

In a chain, :math:`q(z_{l+1} \mid z_l)`, :math:`p(z_l \mid z_{l+1})` and :math:`p(x \mid z_1)`
depend on one neighbour. The layers below may then be pushed before the next layer is popped,
so the initial bits are those of one layer:

========================================================  ================================
push (read downward)                                       pop (read upward)
========================================================  ================================
pop :math:`z_1` by :math:`q(z_1 \mid x)`                   push :math:`z_1`
push x by :math:`p(x \mid z_1)`                            pop x
pop :math:`z_2` by :math:`q(z_2 \mid z_1)`                 push :math:`z_2`
push :math:`z_1` by :math:`p(z_1 \mid z_2)`                pop :math:`z_1`
push :math:`z_2` by :math:`p(z_2)`                         pop :math:`z_2`
========================================================  ================================

Inputs that a distribution does not depend on are set to the middle buckets, in both directions.

References:
    Bit-Swap: Recursive Bits-Back Coding for Lossless Compression with Hierarchical Latent Variables
    (Kingma et al., 2019), https://arxiv.org/abs/1905.06845
"""

from typing import Generic

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from density.coding.ans import PRECISION, SPARE, TOTAL, Stack, full_sizes
from density.coding.buckets import Span
from density.coding.data_code import Emission, Rows, noise
from density.coding.latents import Layers
from density.model import LatentModel

__all__ = ["BitSwap"]


class BitSwap(Generic[Rows]):
    """Code tiles of rows by a model whose attribute ``chain`` is true."""

    def __init__(self, model: LatentModel, emission: Emission[Rows], layers: Layers) -> None:
        self.model = model
        self.emission: Emission[Rows] = emission
        self.layers = layers
        self.top = len(layers.widths) - 1

    def push(self, stack: Stack, x: Tensor, count: int) -> None:
        """Push the first ``count`` rows of a tile.

        Raises:
            Exhausted: the message is too short to pop a layer from.
        """
        layers = self.layers
        q = self.model.posterior(x)
        bucket = layers.middle()
        for layer in range(self.top + 1):
            bucket[:count, layers.slices[layer]] = self._pop_by_posterior(
                stack, q, layer, x, bucket, count
            )
            if layer == 0:
                z = layers.latent(layers.only(bucket, 0))
                stack.push(self.emission.intervals(z, x, count))
            else:
                self._push_by_prior(stack, layer - 1, bucket, count)
        self._push_by_prior(stack, self.top, bucket, count)

    def pop(self, stack: Stack, count: int) -> Tensor:
        """Pop the tile that :meth:`push` pushed."""
        layers = self.layers
        bucket = layers.middle()
        blank = self.emission.tile(None)
        for layer in range(self.top, -1, -1):
            bucket[:count, layers.slices[layer]] = self._pop_by_prior(stack, layer, bucket, count)
            if layer < self.top:
                self._push_by_posterior(
                    stack, self.model.posterior(blank), layer + 1, blank, bucket, count
                )
        x = self.emission.pop(stack, layers.latent(layers.only(bucket, 0)), count)
        self._push_by_posterior(stack, self.model.posterior(x), 0, x, bucket, count)
        return x

    def _pop_by_posterior(
        self, stack: Stack, q: Distribution, layer: int, x: Tensor, bucket: np.ndarray, count: int
    ) -> np.ndarray:
        """Pop the buckets (count, width) of a layer given its lower neighbour, x for layer 0."""
        layers = self.layers
        width = layers.widths[layer]
        gaussian = layers.posterior_conditionals(q, layers.only(bucket, layer - 1))[layer].first(
            count
        )

        stack.require(PRECISION * count * width + SPARE)
        position = stack.pop_uniform(full_sizes(count * width)).reshape(count, width)
        position = (position + self._noise(layer, x, bucket, count)) % TOTAL
        popped = layers.grids[layer].find(position, *gaussian)
        start, size = layers.grids[layer].interval(popped, *gaussian)
        stack.push_uniform((position - start).ravel(), size.ravel())
        return popped

    def _push_by_posterior(
        self, stack: Stack, q: Distribution, layer: int, x: Tensor, bucket: np.ndarray, count: int
    ) -> None:
        """Push what :meth:`_pop_by_posterior` popped: its inverse."""
        layers = self.layers
        gaussian = layers.posterior_conditionals(q, layers.only(bucket, layer - 1))[layer]
        start, size = layers.span(layer, gaussian, bucket, count)

        position = start + stack.pop_uniform(size.ravel()).reshape(size.shape)
        position = (position - self._noise(layer, x, bucket, count)) % TOTAL
        stack.push_uniform(position.ravel(), full_sizes(position.size))

    def _push_by_prior(self, stack: Stack, layer: int, bucket: np.ndarray, count: int) -> None:
        """Push the buckets of a layer given its upper neighbour."""
        self.layers.push(stack, layer, bucket[:count], self._prior_span(layer, bucket, count))

    def _pop_by_prior(self, stack: Stack, layer: int, bucket: np.ndarray, count: int) -> np.ndarray:
        """Pop the buckets (count, width) that :meth:`_push_by_prior` pushed."""
        conditionals = self.layers.prior_conditionals(self.layers.only(bucket, layer + 1))
        return self.layers.pop(stack, layer, conditionals.get(layer), count)

    def _prior_span(self, layer: int, bucket: np.ndarray, count: int) -> Span | None:
        if layer in self.layers.uniform:
            return None
        gaussian = self.layers.prior_conditionals(self.layers.only(bucket, layer + 1))[layer]
        return self.layers.span(layer, gaussian, bucket, count)

    def _noise(self, layer: int, x: Tensor, bucket: np.ndarray, count: int) -> np.ndarray:
        """Return a hash of the layer's lower neighbour, which the layer's posterior depends on."""
        below = x
        if layer:
            below = torch.from_numpy(bucket[:, self.layers.slices[layer - 1]])
        return noise(below, count, self.layers.widths[layer])
