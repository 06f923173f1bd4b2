r"""The latents of a model as buckets: a grid for every layer, and the model's distributions on it.

A codec needs finitely many latents, the same in every process. The grid of a
layer whose prior depends on no other layer is that of the prior: its buckets have equal mass. The
grid of a layer below another is that of a Gaussian with the mean and the deviation of samples from
the prior, rounded so that errors in the last digits have no effect.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from density.coding.ans import SPARE, Stack, full_sizes
from density.coding.buckets import BUCKETS, Span
from density.coding.finite import naming_rows
from density.coding.gaussians import Gaussians, Layered, climb
from density.coding.prior_layout import PRIOR, prior_layout
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["Layers"]

POSTERIOR = "the posterior"  # in errors

# (layer, Gaussians of the rows given the buckets of the layers before) -> buckets (count, width)
ChooseBuckets: TypeAlias = Callable[[int, Gaussians], np.ndarray]


class Layers:
    """The latent layers of a model, side by side in arrays of buckets (tile, width)."""

    def __init__(self, model: LatentModel, blank: Tensor, tile: int) -> None:
        self.tile = tile
        self.prior = model.prior()
        self.event_shape = self.prior.event_shape

        with naming_rows(None):
            self.widths = _widths(model.posterior(blank), tile)
        if sum(self.widths) != self.event_shape.numel():
            raise InputError(
                "bits-back: prior and posterior must have as many coordinates; got "
                f"{self.event_shape.numel()} and {sum(self.widths)}; "
                "use one latent for both"
            )
        ends = np.cumsum([0, *self.widths])
        self.width = int(ends[-1])
        self.slices = [slice(start, end) for start, end in pairwise(ends)]

        with naming_rows(None):
            layout = prior_layout(self.prior, self.slices)
        self.order = layout.order
        self.uniform = layout.uniform
        self.grids = layout.grids
        self.uniform_width = sum(self.widths[layer] for layer in self.uniform)

    def middle(self) -> np.ndarray:
        """Return the buckets of a blank tile, and of padding: the middle ones."""
        return np.full((self.tile, self.width), BUCKETS // 2)

    def only(self, bucket: np.ndarray, *layers: int) -> np.ndarray:
        """Return the buckets of some layers, and the middle for the others."""
        result = self.middle()
        for layer in layers:
            if 0 <= layer < len(self.slices):
                result[:, self.slices[layer]] = bucket[:, self.slices[layer]]
        return result

    def latent(self, bucket: np.ndarray) -> Tensor:
        """Return the latents (tile, *event) of buckets."""
        values = [self._centres(layer, bucket) for layer in range(len(self.grids))]
        return torch.from_numpy(np.concatenate(values, 1)).view(self.tile, *self.event_shape)

    def posterior_at(
        self, q: Distribution, position: np.ndarray
    ) -> tuple[np.ndarray, dict[int, Gaussians]]:
        """Return the buckets (tile, width) at positions (count, width) of the posterior's tables.

        Beside them, the posterior of every layer given the buckets of those before it.
        """
        return self._climb(q, len(position), partial(self._find, position), POSTERIOR)

    def posterior_conditionals(self, q: Distribution, bucket: np.ndarray) -> dict[int, Gaussians]:
        """Return the posterior of every layer given the buckets of those before it."""
        return self._conditionals(q, bucket, POSTERIOR)

    def prior_conditionals(self, bucket: np.ndarray) -> dict[int, Gaussians]:
        """Return the prior of every layer given the buckets before it; empty if all are uniform."""
        if len(self.uniform) == len(self.widths):
            return {}
        return self._conditionals(self.prior, bucket, PRIOR)

    def span(self, layer: int, gaussian: Gaussians, bucket: np.ndarray, count: int) -> Span:
        """Return the intervals (count, the layer's width) of a layer's buckets in its tables."""
        return self.grids[layer].interval(
            bucket[:count, self.slices[layer]], *gaussian.first(count)
        )

    def spans(self, conditionals: dict[int, Gaussians], bucket: np.ndarray, count: int) -> Span:
        """Return the intervals (count, width) of all layers' buckets in their tables."""
        spans = [
            self.span(layer, conditionals[layer], bucket, count)
            for layer in range(len(self.widths))
        ]
        starts = np.concatenate([span.start for span in spans], 1)
        return Span(starts, np.concatenate([span.size for span in spans], 1))

    def prior_spans(self, bucket: np.ndarray, count: int) -> dict[int, Span]:
        """Return the intervals, in the prior's tables, of every layer that depends on others."""
        spans = {}
        for layer, gaussian in self.prior_conditionals(bucket).items():
            if layer not in self.uniform:
                spans[layer] = self.span(layer, gaussian, bucket, count)
        return spans

    def push_all(
        self, stack: Stack, bucket: np.ndarray, spans: dict[int, Span], count: int
    ) -> None:
        """Push all layers by the prior, last first; ``spans`` are those of :meth:`prior_spans`."""
        for layer in reversed(self.order):
            self.push(stack, layer, bucket[:count], spans.get(layer))

    def pop_all(self, stack: Stack, count: int) -> np.ndarray:
        """Pop the buckets (tile, width) that :meth:`push_all` pushed."""
        if isinstance(self.prior, Layered):
            pop_layer = partial(self._pop_layer, stack, count)
            return self._climb(self.prior, count, pop_layer, PRIOR)[0]
        bucket = self.middle()
        for layer in self.order:
            bucket[:count, self.slices[layer]] = self._pop_uniform(stack, layer, count)
        return bucket

    def push(self, stack: Stack, layer: int, bucket: np.ndarray, span: Span | None) -> None:
        """Push a layer of buckets (count, width) by their prior intervals; None: uniform."""
        if span is None:
            symbols = bucket[:, self.slices[layer]].ravel()
            stack.push_uniform(symbols, np.full(symbols.size, BUCKETS))
            return
        size = span.size.ravel()
        stack.require(int(np.log2(size).sum()) + SPARE)
        position = span.start.ravel() + stack.pop_uniform(size)
        stack.push_uniform(position, full_sizes(size.size))

    def pop(self, stack: Stack, layer: int, gaussian: Gaussians | None, count: int) -> np.ndarray:
        """Pop the buckets (count, width) that :meth:`push` pushed, by the prior ``gaussian``."""
        if layer in self.uniform or gaussian is None:
            return self._pop_uniform(stack, layer, count)
        width = self.widths[layer]
        position = stack.pop_uniform(full_sizes(count * width)).reshape(count, width)
        bucket = self.grids[layer].find(position, *gaussian.first(count))
        start, size = self.grids[layer].interval(bucket, *gaussian.first(count))
        stack.push_uniform((position - start).ravel(), size.ravel())
        return bucket

    def _pop_layer(self, stack: Stack, count: int, layer: int, gaussian: Gaussians) -> np.ndarray:
        return self.pop(stack, layer, gaussian, count)

    def _pop_uniform(self, stack: Stack, layer: int, count: int) -> np.ndarray:
        width = self.widths[layer]
        return stack.pop_uniform(np.full(count * width, BUCKETS)).reshape(count, width)

    def _find(self, position: np.ndarray, layer: int, gaussian: Gaussians) -> np.ndarray:
        columns = position[:, self.slices[layer]]
        return self.grids[layer].find(columns, *gaussian.first(len(position)))

    def _conditionals(
        self, distribution: Distribution, bucket: np.ndarray, what: str
    ) -> dict[int, Gaussians]:
        return climb(distribution, self.tile, partial(self._centres_of, bucket), what).conditionals

    def _centres_of(self, bucket: np.ndarray, layer: int, gaussian: Gaussians) -> np.ndarray:
        return self._centres(layer, bucket)

    def _centres(self, layer: int, bucket: np.ndarray) -> np.ndarray:
        return self.grids[layer].centres(bucket[:, self.slices[layer]])

    def _climb(
        self, distribution: Distribution, count: int, choose: ChooseBuckets, what: str
    ) -> tuple[np.ndarray, dict[int, Gaussians]]:
        """Return the buckets (tile, width) of ``choose``, and the Gaussians."""
        tile = _Tile(self, count, choose)
        conditionals = climb(distribution, self.tile, tile.values, what).conditionals
        return tile.bucket, conditionals


class _Tile:
    """The buckets of a tile, filled in one layer after the other."""

    def __init__(self, layers: Layers, count: int, choose: ChooseBuckets) -> None:
        self.layers = layers
        self.count = count
        self.choose = choose
        self.bucket = layers.middle()

    def values(self, layer: int, gaussian: Gaussians) -> np.ndarray:
        """Set the buckets of a layer, and return their central values."""
        columns = self.bucket[:, self.layers.slices[layer]]
        columns[: self.count] = self.choose(layer, gaussian)
        return self.layers.grids[layer].centres(columns)


def _widths(q: Distribution, tile: int) -> list[int]:
    """Return the number of coordinates of every layer of a posterior."""
    conditionals = climb(q, tile, _means, POSTERIOR).conditionals
    return [conditionals[layer].mean.shape[1] for layer in range(len(conditionals))]


def _means(layer: int, gaussian: Gaussians) -> np.ndarray:
    return gaussian.mean.copy()
