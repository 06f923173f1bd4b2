r"""Bits-back coding: latents are popped from the message they help to write, so that a datum costs its bound.

For one tile of data, K particles and a message that is a stack:

=====================================================================  =========================
push (read downward)                                                    pop (read upward)
=====================================================================  =========================
pop a position r, uniform on the integers; it names :math:`z_k`         push r
pop j with probability :math:`w_j / \sum_k w_k`                         push j by these
push where in its interval :math:`q(z_j \mid x)` the position lies      pop it: r is known
push x by :math:`p(x \mid z_j)`                                         pop x
push :math:`z_j` by :math:`p(z)`                                        pop :math:`z_j`
push j, uniform                                                         pop j
=====================================================================  =========================

The net cost is :math:`-\log_2 \frac1K \sum_k w_k` bits with :math:`w_k = p(x, z_k) / q(z_k \mid x)`: the negative
ELBO at K = 1 (BB-ANS), the importance-weighted bound at larger K. The particles are coupled, :math:`z_k` lies at
position :math:`r + s_k` of the posterior's tables with fixed shifts s, so that they cost the initial bits of one.

What is popped from a stack is what was just pushed, the last latent, whose values are not quite as likely as the prior
has it. Read as positions, they would be drawn from another law than q. So a pseudo-random number, a function of x
alone, is added to every position: positions are uniform whatever they come from, and a reader knows x in time.

A chain of layers, where :math:`q(z_{l+1} \mid z_l)` and :math:`p(x \mid z_1)` look at one neighbour, may return the
bits of a layer before it takes those of the next (Bit-Swap): pop :math:`z_1`, push x, pop :math:`z_2`, push
:math:`z_1`, and so on.

The first bits to pop are those of the first data, coded without a latent: none are invented, all are counted. What
must hold for the two columns to be mirrors: every law is evaluated on tiles of one shape, with the same numbers in
them, by one thread in float64; and a latent is known by its bucket alone, whose grid is the model's.

References:
    Practical lossless compression with latent variables using bits back coding (Townsend et al., 2019),
    https://arxiv.org/abs/1901.04866
    Bit-Swap (Kingma et al., 2019), https://arxiv.org/abs/1905.06845
    Improving Lossless Compression Rates via Monte Carlo Bits-Back Coding (Ruan et al., 2021),
    https://arxiv.org/abs/2102.11086
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from density.codec import BUCKETS, PRECISION, TOTAL, Exhausted, Intervals, Stack, frequencies, intervals
from density.latent_grid import Layers, coordinates
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["BitsBack", "Coded", "Coding", "Emission"]

SPARE = 64  # bits below which the stack is not to sink


class Emission(Protocol):
    r"""The law :math:`p(x \mid z)` as a code for tiles of data, and a code for the first data, without latents.

    ``count`` is the number of real data in a tile; the rest is padding. A tile is what ``model.posterior`` takes.
    """

    def tile(self, data: Any) -> Tensor:
        """Pads some data, at most a tile of them, to a whole tile; no data make a blank one."""
        ...

    def data(self, x: Tensor, count: int) -> Any:
        """The inverse of :meth:`tile`."""
        ...

    def join(self, parts: Sequence[Any]) -> Any:
        """Data one after the other."""
        ...

    def content(self, data: Any) -> bytes:
        """The data as bytes, for a checksum."""
        ...

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        """What the symbols of x own of the tables of p(x | z)."""
        ...

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
        """Pops a tile whose intervals were pushed."""
        ...

    def push_plain(self, stack: Stack, data: Any) -> None:
        """Pushes data without latents."""
        ...

    def pop_plain(self, stack: Stack, count: int) -> Any:
        """Pops what :meth:`push_plain` pushed."""
        ...


@dataclass(frozen=True)
class Coding:
    """How data are coded; a reader must do the same, so a file says it."""

    particles: int = 1  # importance samples of a datum
    tile: int = 1  # data coded together, each needing initial bits of its own
    swap: bool = True  # Bit-Swap, where the model is a chain of layers and particles are one

    def __post_init__(self) -> None:
        if not (1 <= self.particles <= 4096 and 1 <= self.tile <= 4096):
            raise InputError(
                f"Coding: particles and tile must lie in 1..4096; got particles={self.particles}, tile={self.tile}"
            )


class Coded(NamedTuple):
    """A message of some data, and what it is made of."""

    words: np.ndarray
    plain: int  # data coded without latents, the first ones
    initial_bits: int  # that these take
    net_bits: int  # that the others add
    data: int  # in all


class _Particle(NamedTuple):
    bucket: np.ndarray  # (tile, d)
    start: np.ndarray  # (count, d), of the posterior's intervals
    size: np.ndarray
    prior: list[tuple[int, np.ndarray, np.ndarray]]  # (layer, start, size) in the order of the prior; own grids none
    x: Intervals
    log_w: np.ndarray  # (count,)


class BitsBack:
    """Codes data by a model with Gaussian latents, one layer or several, and an :class:`Emission`.

    The model must be in float64 and evaluate; see :func:`density.lossless.prepared`.
    """

    def __init__(self, model: LatentModel, emission: Emission, coding: Coding) -> None:
        self.model, self.emission, self.coding = model, emission, coding
        self.layers = Layers(model, emission.tile(None), coding.tile)
        self.swap = coding.swap and coding.particles == 1 and bool(getattr(model, "chain", False))
        shifts = np.random.default_rng(0).integers(TOTAL, size=(coding.particles, self.layers.width))
        shifts[0] = 0
        self.shifts = shifts

    def push(self, data: Any, progress: Callable[[int], object] = lambda count: None) -> Coded:
        """Makes a message of data; ``progress`` hears how many data are done."""
        plain, each = 0, 0
        while True:
            stack = Stack()
            if plain:
                self.emission.push_plain(stack, data[:plain])
                each = max(1, stack.bits // plain)
            initial, done = stack.bits, plain
            try:
                for start in range(plain, len(data), self.coding.tile):
                    part = data[start : start + self.coding.tile]
                    self._push(stack, self.emission.tile(part), len(part))
                    progress(len(part) + (plain if start == plain else 0))
                    done = start + len(part)
                if plain == len(data):
                    progress(plain)
                return Coded(stack.words(), plain, initial, stack.bits - initial, len(data))
            except Exhausted as error:
                progress(-done if done > plain else 0)
                plain = min(len(data), plain + (-(-error.missing // each) if each else 1))

    def pop(
        self, words: np.ndarray, count: int, plain: int, progress: Callable[[int], object] = lambda count: None
    ) -> Any:
        """Reads the message of ``count`` data, ``plain`` of them coded without latents."""
        stack, parts = Stack(words), []
        for start in reversed(range(plain, count, self.coding.tile)):
            size = min(self.coding.tile, count - start)
            parts.append(self.emission.data(self._pop(stack, size), size))
            progress(size)
        if plain:
            parts.append(self.emission.pop_plain(stack, plain))
            progress(plain)
        return self.emission.join(parts[::-1])

    def _push(self, stack: Stack, x: Tensor, count: int) -> None:
        if self.swap:
            self._push_chain(stack, x, count)
            return
        width, q = self.layers.width, self.model.posterior(x)
        stack.require(PRECISION * count * width + SPARE)
        position = (stack.pop_uniform(_whole(count * width)).reshape(count, width) + _noise(x, count, width)) % TOTAL
        found = [self._particle(q, x, count, position, shift) for shift in self.shifts]
        j = np.zeros(count, np.int64)
        if len(found) > 1:
            stack.require(2 * PRECISION * count + SPARE)
            j = stack.pop(_weights(found)).astype(np.int64)
        chosen = found[0] if len(found) == 1 else self._scored(q, x, count, _picked(found, j))
        offset = (position + self.shifts[j]) % TOTAL - chosen.start
        if (offset < 0).any() or (offset >= chosen.size).any():
            raise InputError("bits_back: a law changed with its neighbours in a tile; set tile=1")
        stack.push_uniform(offset.ravel(), chosen.size.ravel())
        stack.push(chosen.x)
        self._push_prior(stack, chosen, count)
        stack.push_uniform(j, np.full(count, len(found)))

    def _pop(self, stack: Stack, count: int) -> Tensor:
        if self.swap:
            return self._pop_chain(stack, count)
        j = stack.pop_uniform(np.full(count, self.coding.particles))
        bucket = self._pop_prior(stack, count)
        x = self.emission.pop(stack, self.layers.latent(bucket), count)
        q = self.model.posterior(x)
        start, size = self.layers.given(q, bucket, count)
        position = (start + stack.pop_uniform(size.ravel()).reshape(size.shape) - self.shifts[j]) % TOTAL
        if self.coding.particles > 1:
            found = [self._particle(q, x, count, position, shift) for shift in self.shifts]
            stack.push(intervals(_weights(found), j, np.arange(count)))
        position = (position - _noise(x, count, self.layers.width)) % TOTAL
        stack.push_uniform(position.ravel(), _whole(position.size))
        return x

    # The steps both columns take.

    def _particle(self, q: Distribution, x: Tensor, count: int, position: np.ndarray, shift: np.ndarray) -> _Particle:
        return self._scored(q, x, count, *self.layers.at(q, (position + shift) % TOTAL, count))

    def _scored(
        self,
        q: Distribution,
        x: Tensor,
        count: int,
        bucket: np.ndarray,
        start: np.ndarray | None = None,
        size: np.ndarray | None = None,
    ) -> _Particle:
        if start is None or size is None:
            start, size = self.layers.given(q, bucket, count)
        prior = self.layers.prior_intervals(bucket, count)
        owned = self.emission.intervals(self.layers.latent(bucket), x, count)
        log_w = owned.log_mass(count) - np.log(size / TOTAL).sum(1) - self.layers.own_width * np.log(BUCKETS)
        for _, _, mass in prior:
            log_w = log_w + np.log(mass / TOTAL).sum(1)
        return _Particle(bucket, start, size, prior, owned, log_w)

    def _push_prior(self, stack: Stack, chosen: _Particle, count: int) -> None:
        laws = {layer: (start, size) for layer, start, size in chosen.prior}
        for layer in reversed(self.layers.order):
            self._push_layer(stack, layer, chosen.bucket[:count, self.layers.slices[layer]], laws.get(layer))

    def _push_layer(
        self, stack: Stack, layer: int, bucket: np.ndarray, owned: tuple[np.ndarray, np.ndarray] | None
    ) -> None:
        if owned is None:
            stack.push_uniform(bucket.ravel(), np.full(bucket.size, BUCKETS))
            return
        start, size = owned
        stack.require(PRECISION * size.size + SPARE)
        offset = stack.pop_uniform(size.ravel())
        stack.push_uniform(start.ravel() + offset, _whole(size.size))

    def _pop_prior(self, stack: Stack, count: int) -> np.ndarray:
        bucket = self.layers.middle()

        def pop(layer: int, law: Distribution) -> None:
            bucket[:count, self.layers.slices[layer]] = self._pop_layer(stack, layer, law, count)

        self.layers.walk_prior(bucket, pop)
        return bucket

    def _pop_layer(self, stack: Stack, layer: int, law: Distribution, count: int) -> np.ndarray:
        width = self.layers.widths[layer]
        if layer in self.layers.own:
            return stack.pop_uniform(np.full(count * width, BUCKETS)).reshape(count, width)
        mean, scale = coordinates(law, self.coding.tile, count)
        position = stack.pop_uniform(_whole(count * width)).reshape(count, width)
        grid = self.layers.grids[layer]
        bucket = grid.find(position, mean, scale)
        start, size = grid.interval(bucket, mean, scale)
        stack.push_uniform((position - start).ravel(), size.ravel())
        return bucket

    # Bit-Swap. What a law does not look at is filled with the middle bucket, in both directions.

    def _push_chain(self, stack: Stack, x: Tensor, count: int) -> None:
        q, bucket, last = self.model.posterior(x), self.layers.middle(), len(self.layers.widths) - 1

        def swap(layer: int, law: Distribution) -> None:
            grid, own = self.layers.grids[layer], self.layers.slices[layer]
            mean, scale = coordinates(law, self.coding.tile, count)
            stack.require(PRECISION * mean.size + SPARE)
            position = stack.pop_uniform(_whole(mean.size)).reshape(mean.shape)
            position = (position + self._chain_noise(layer, x, bucket, count)) % TOTAL
            bucket[:count, own] = grid.find(position, mean, scale)
            start, size = grid.interval(bucket[:count, own], mean, scale)
            stack.push_uniform((position - start).ravel(), size.ravel())
            if layer == 0:
                alone = self.layers.only(bucket, 0)
                stack.push(self.emission.intervals(self.layers.latent(alone), x, count))
            else:
                below = self.layers.prior_interval(layer - 1, self.layers.only(bucket, layer - 1, layer), count)
                self._push_layer(stack, layer - 1, bucket[:count, self.layers.slices[layer - 1]], below)

        self.layers.walk(q, bucket, swap)
        self._push_layer(stack, last, bucket[:count, self.layers.slices[last]], None)

    def _pop_chain(self, stack: Stack, count: int) -> Tensor:
        bucket, blank = self.layers.middle(), self.emission.tile(None)
        for layer in reversed(range(len(self.layers.widths))):
            known = self.layers.only(bucket, layer + 1)
            law = self.layers.prior_law(layer, known)
            bucket[:count, self.layers.slices[layer]] = self._pop_layer(stack, layer, law, count)
            if layer + 1 < len(self.layers.widths):
                self._return(stack, blank, layer + 1, bucket, count)
        x = self.emission.pop(stack, self.layers.latent(self.layers.only(bucket, 0)), count)
        self._return(stack, x, 0, bucket, count)
        return x

    def _return(self, stack: Stack, x: Tensor, layer: int, bucket: np.ndarray, count: int) -> None:
        """Pushes the position from which a layer was popped; only the lowest looks at x."""
        q = self.model.posterior(x)
        start, size = self.layers.given(q, self.layers.only(bucket, layer - 1, layer), count, layer)
        position = start + stack.pop_uniform(size.ravel()).reshape(size.shape)
        position = (position - self._chain_noise(layer, x, bucket, count)) % TOTAL
        stack.push_uniform(position.ravel(), _whole(size.size))

    def _chain_noise(self, layer: int, x: Tensor, bucket: np.ndarray, count: int) -> np.ndarray:
        """A function of what the layer's posterior looks at."""
        below = torch.from_numpy(bucket[:, self.layers.slices[layer - 1]]) if layer else x
        return _noise(below, count, self.layers.widths[layer])


def _whole(count: int) -> np.ndarray:
    return np.full(count, TOTAL)


def _noise(x: Tensor, count: int, width: int) -> np.ndarray:
    """Uniform integers below TOTAL, (count, width), each row a function of that row of x alone (SplitMix64)."""
    seeds = [zlib.crc32(row.tobytes()) for row in x[:count].contiguous().numpy()]
    state: np.ndarray = np.array(seeds, np.uint64)[:, None] << np.uint64(32)
    state = (state + np.arange(1, width + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(64 - PRECISION)).astype(np.int64)


def _weights(found: Sequence[_Particle]) -> np.ndarray:
    """The frequencies of the particles, (count, particles)."""
    log_w = np.stack([particle.log_w for particle in found], 1)
    w = np.exp(log_w - log_w.max(1, keepdims=True))
    return frequencies(w / w.sum(1, keepdims=True))


def _picked(found: Sequence[_Particle], j: np.ndarray) -> np.ndarray:
    """The buckets of particle j of each datum; padding is alike in all."""
    bucket = found[0].bucket.copy()
    for row, k in enumerate(j):
        bucket[row] = found[k].bucket[row]
    return bucket
