r"""The latents of a model as buckets: a grid for every layer, and the laws of a model read off on it.

A latent that a codec sends must be one of finitely many, the same whoever computes it. The grid of
a layer whose prior depends on nothing is that prior's own: its buckets have equal mass. The grid of
a layer below another is that of a Gaussian with the mean and the deviation of draws from the prior,
rounded so that no last digit matters.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal

from density.coding.ans import SPARE, Stack, whole
from density.coding.buckets import BUCKETS, Grid
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["Layers", "Owned", "Walked", "coordinates"]

DRAWS = 1024  # from the prior, for the grids of layers below another


@runtime_checkable
class Walked(Protocol):
    """A law of several layers that can be climbed: it asks for each layer's latent, given its law, in turn."""

    def walk(
        self, lead: Size, choose: Callable[[int, Distribution], Tensor]
    ) -> tuple[Tensor, Sequence[Distribution]]: ...


Owned: TypeAlias = tuple[np.ndarray, np.ndarray]  # starts and sizes of intervals, (count, width)
# (layer, its law); may fill in the layer's buckets
Visit: TypeAlias = Callable[[int, Distribution], Any]


def coordinates(
    law: Distribution, rows: int, count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations (count, d) of a Gaussian law with independent coordinates; of ``rows`` data, or of none.

    :class:`InputError` for other laws: a codec needs one-dimensional distribution functions.
    """
    base = law
    while isinstance(base, Independent):
        base = base.base_dist
    if not isinstance(base, Normal):
        raise InputError(
            f"bits-back: needs latents with one-dimensional distribution functions, diagonal Gaussians; "
            f"got {type(base).__name__}; use a model with Gaussian latents"
        )
    pair = []
    for part in (base.loc, base.scale):
        array = part.detach().to("cpu", torch.float64).numpy()
        pair.append(
            np.broadcast_to(
                array.reshape(-1, int(np.prod(law.event_shape))), (rows, law.event_shape.numel())
            )
        )
    mean, scale = (part[:count] for part in pair)
    if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise InputError(
            "bits-back: a law of the latents has no finite mean and deviation; the model is damaged"
        )
    return mean, scale


class Layers:
    """The latent layers of a model, numbered as its own, side by side in arrays of buckets (tile, width)."""

    def __init__(self, model: LatentModel, blank: Tensor, tile: int) -> None:
        self.model = model
        self.tile = tile
        self.prior = model.prior()
        q = model.posterior(blank)
        self.event = self.prior.event_shape
        self.widths = self._measure(q)
        ends = np.cumsum([0, *self.widths])
        self.width = int(ends[-1])
        self.slices = [slice(a, b) for a, b in pairwise(ends)]
        self.order, self.own, self.grids = self._make_grids()
        self.own_width = sum(self.widths[layer] for layer in self.own)

    def middle(self) -> np.ndarray:
        """Buckets of a tile before anything is known of it; those of padding stay."""
        return np.full((self.tile, self.width), BUCKETS // 2)

    def only(self, bucket: np.ndarray, *layers: int) -> np.ndarray:
        """The buckets of some layers, the middle for the others."""
        kept = self.middle()
        for layer in layers:
            if 0 <= layer < len(self.slices):
                kept[:, self.slices[layer]] = bucket[:, self.slices[layer]]
        return kept

    def latent(self, bucket: np.ndarray) -> Tensor:
        """The latents (tile, *event) of buckets."""
        parts = [
            grid.centres(bucket[:, own]) for grid, own in zip(self.grids, self.slices, strict=True)
        ]
        return torch.from_numpy(np.concatenate(parts, 1)).view(self.tile, *self.event)

    def walk(self, law: Distribution, bucket: np.ndarray, visit: Visit) -> None:
        """Climb a law over a tile: ``visit`` sees each layer's law, and its buckets are read after it."""

        def choose(layer: int, conditional: Distribution) -> Tensor:
            visit(layer, conditional)
            z = self.grids[layer].centres(bucket[:, self.slices[layer]])
            return torch.from_numpy(z).view(self.tile, *conditional.event_shape)

        if isinstance(law, Walked):
            law.walk(Size((self.tile,)), choose)
        else:
            choose(0, law)

    def walk_prior(self, bucket: np.ndarray, visit: Visit) -> None:
        """Climb the prior.

        Where it knows no layers, each has a part of it, the same for all data.
        """
        if isinstance(self.prior, Walked):
            self.walk(self.prior, bucket, visit)
            return
        for layer in self.order:
            visit(layer, self.prior)

    def at(
        self, q: Distribution, position: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the buckets at positions (count, width) of the posterior's tables, with their intervals."""
        bucket = self.middle()
        start = np.empty_like(position)
        size = np.empty_like(position)

        def find(layer: int, law: Distribution) -> None:
            own = self.slices[layer]
            grid = self.grids[layer]
            mean, scale = coordinates(law, self.tile, count)
            bucket[:count, own] = grid.find(position[:, own], mean, scale)
            start[:, own], size[:, own] = grid.interval(bucket[:count, own], mean, scale)

        self.walk(q, bucket, find)
        return bucket, start, size

    def given(self, q: Distribution, bucket: np.ndarray, count: int) -> Owned:
        """Start and size of given buckets in the posterior's tables, (count, width)."""
        start, size = np.zeros((2, count, self.width), np.int64)

        def read(layer: int, law: Distribution) -> None:
            own = self.slices[layer]
            (mean, scale) = coordinates(law, self.tile, count)
            start[:, own], size[:, own] = self.grids[layer].interval(
                bucket[:count, own], mean, scale
            )

        self.walk(q, bucket, read)
        return start, size

    def prior_intervals(self, bucket: np.ndarray, count: int) -> dict[int, Owned]:
        """Start and size of the buckets of every layer that depends on others, in the prior's tables."""
        found = {}

        def read(layer: int, law: Distribution) -> None:
            if layer not in self.own:
                mean, scale = coordinates(law, self.tile, count)
                found[layer] = self.grids[layer].interval(
                    bucket[:count, self.slices[layer]], mean, scale
                )

        if len(self.own) < len(self.widths):
            self.walk_prior(bucket, read)
        return found

    def prior_law(self, layer: int, bucket: np.ndarray) -> Distribution:
        """The law of a layer given the buckets of those before it."""
        laws: dict[int, Distribution] = {}
        self.walk_prior(bucket, lambda index, law: laws.setdefault(index, law))
        return laws[layer]

    def push(self, stack: Stack, layer: int, bucket: np.ndarray, owned: Owned | None) -> None:
        """Push a layer of buckets (count, width) by what they own of the prior's tables.

        By none, if it is even.
        """
        if owned is None:
            mine = bucket[:, self.slices[layer]].ravel()
            stack.push_uniform(mine, np.full(mine.size, BUCKETS))
            return
        start, size = (part.ravel() for part in owned)
        stack.require(int(np.log2(size).sum()) + SPARE)
        stack.push_uniform(start + stack.pop_uniform(size), whole(size.size))

    def pop(self, stack: Stack, layer: int, law: Distribution, count: int) -> np.ndarray:
        """Pop what :meth:`push` pushes, (count, the layer's width)."""
        width = self.widths[layer]
        grid = self.grids[layer]
        if layer in self.own:
            return stack.pop_uniform(np.full(count * width, BUCKETS)).reshape(count, width)
        mean, scale = coordinates(law, self.tile, count)
        position = stack.pop_uniform(whole(count * width)).reshape(count, width)
        bucket = grid.find(position, mean, scale)
        start, size = grid.interval(bucket, mean, scale)
        stack.push_uniform((position - start).ravel(), size.ravel())
        return bucket

    def _measure(self, q: Distribution) -> list[int]:
        widths: dict[int, int] = {}

        def choose(layer: int, law: Distribution) -> Tensor:
            mean, _ = coordinates(law, self.tile)
            widths[layer] = mean.shape[1]
            return torch.from_numpy(mean.copy()).view(self.tile, *law.event_shape)

        if isinstance(q, Walked):
            q.walk(Size((self.tile,)), choose)
        else:
            choose(0, q)
        if sum(widths.values()) != self.event.numel():
            raise InputError(
                f"bits-back: prior and posterior must have as many coordinates; got {self.event.numel()} and "
                f"{sum(widths.values())}; the model is no model of one latent"
            )
        return [widths[layer] for layer in range(len(widths))]

    def _make_grids(self) -> tuple[list[int], frozenset[int], list[Grid]]:
        """The order in which the prior is climbed, the layers whose grid is their prior's own, and the grids."""
        layers = range(len(self.widths))
        if not isinstance(self.prior, Walked):
            mean, scale = coordinates(self.prior, 1)
            return (
                list(layers),
                frozenset(layers),
                [Grid(mean[0, own], scale[0, own]) for own in self.slices],
            )
        order: list[int] = []
        grids: dict[int, Grid] = {}
        noise = np.random.default_rng(0)

        def choose(layer: int, law: Distribution) -> Tensor:
            mean, scale = coordinates(law, DRAWS)
            z = mean + scale * noise.standard_normal(mean.shape)
            grids[layer] = (
                Grid(*_rounded(z.mean(0), z.std(0))) if order else Grid(mean[0], scale[0])
            )
            order.append(layer)
            return torch.from_numpy(z).view(DRAWS, *law.event_shape)

        self.prior.walk(Size((DRAWS,)), choose)
        return order, frozenset(order[:1]), [grids[layer] for layer in layers]


def _rounded(mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """To quarters of an octave, and eighths of a deviation."""
    scale = np.exp2(np.ceil(4 * np.log2(np.maximum(scale, 1e-30))) / 4)
    return np.round(8 * mean / scale) * scale / 8, scale
