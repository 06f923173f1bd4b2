r"""Bits-back coding: latents are popped from the message they help to write, so that a datum costs its bound.

For one tile of data, K particles and a message that is a stack:

=====================================================================  =========================
push (read downward)                                                    pop (read upward)
=====================================================================  =========================
pop a position r, uniform on the integers; it names :math:`z_k`         push r
pop j with probability :math:`w_j / \sum_k w_k`                         push j by these
push where in its interval of :math:`q(z_j \mid x)` r lies              pop it: r is known
push x by :math:`p(x \mid z_j)`                                         pop x
push :math:`z_j` by :math:`p(z)`                                        pop :math:`z_j`
push j, uniform                                                         pop j
=====================================================================  =========================

The net cost is :math:`-\log_2 \frac1K \sum_k w_k` bits with :math:`w_k = p(x, z_k) / q(z_k \mid
x)`: the negative ELBO at K = 1 (BB-ANS), the importance-weighted bound at larger K. The particles
are coupled, :math:`z_k` lies at position :math:`r + s_k` of the posterior's tables with fixed
shifts s, so that they cost the initial bits of one. Chains of layers may go another way, see
:mod:`density.coding.bit_swap`.

The first bits to pop are those of the first data, coded without a latent: none are invented, all
are counted. What must hold for the two columns to be mirrors: every law is evaluated on tiles of
one shape, with the same numbers in them, by one thread in float64; and a latent is known by its
bucket alone, whose grid is the model's.

References:
    Practical lossless compression with latent variables using bits back coding (Townsend et al.,
    2019), https://arxiv.org/abs/1901.04866 Improving Lossless Compression Rates via Monte Carlo
    Bits-Back Coding (Ruan et al., 2021), https://arxiv.org/abs/2102.11086
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.distributions import Distribution

from density.coding.ans import (
    PRECISION,
    SPARE,
    TOTAL,
    Exhausted,
    Intervals,
    Stack,
    frequencies,
    intervals,
    whole,
)
from density.coding.bit_swap import BitSwap
from density.coding.buckets import BUCKETS
from density.coding.data_code import Coding, Emission, noise
from density.coding.latents import Layers, Owned
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["BitsBack", "Coded"]

Progress = Callable[[int], object]


class Coded(NamedTuple):
    """A message of some data, and what it is made of."""

    words: np.ndarray
    plain: int  # data coded without latents, the first ones
    initial_bits: int  # that these take
    net_bits: int  # that the others add
    data: int  # in all


class BitsBack:
    """Codes data by a model with Gaussian latents, one layer or several, and an :class:`Emission`.

    The model must be in float64 and evaluate; see :func:`density.coding.compress.prepared`.
    """

    def __init__(self, model: LatentModel, emission: Emission, coding: Coding) -> None:
        self.emission = emission
        self.tile = coding.tile
        layers = Layers(model, emission.tile(None), coding.tile)
        chain = coding.swap and coding.particles == 1 and bool(getattr(model, "chain", False))
        self.code = (
            BitSwap(model, emission, layers)
            if chain
            else _Particles(model, emission, layers, coding.particles)
        )

    def push(self, data: Any, progress: Progress = lambda count: None) -> Coded:
        """Make a message of data.

        ``progress`` hears how many more are done, or fewer after a new start.
        """
        plain = 0
        each = 0
        while True:
            stack = Stack()
            done = plain
            if plain:
                self.emission.push_plain(stack, data[:plain])
                each = max(1, stack.bits // plain)
            initial = stack.bits
            progress(plain)
            try:
                for start in range(plain, len(data), self.tile):
                    part = data[start : start + self.tile]
                    self.code.push(stack, self.emission.tile(part), len(part))
                    progress(len(part))
                    done += len(part)
                return Coded(stack.words(), plain, initial, stack.bits - initial, len(data))
            except Exhausted as error:
                progress(-done)
                plain = min(len(data), plain + (-(-error.missing // each) if each else 1))

    def pop(
        self, words: np.ndarray, count: int, plain: int, progress: Progress = lambda count: None
    ) -> Any:
        """Read the message of ``count`` data, ``plain`` of them coded without latents."""
        stack = Stack(words)
        parts = []
        for start in reversed(range(plain, count, self.tile)):
            size = min(self.tile, count - start)
            parts.append(self.emission.data(self.code.pop(stack, size), size))
            progress(size)
        if plain:
            parts.append(self.emission.pop_plain(stack, plain))
            progress(plain)
        return self.emission.join(parts[::-1])


class _Particle(NamedTuple):
    bucket: np.ndarray  # (tile, d)
    start: np.ndarray  # (count, d), of the posterior's intervals
    size: np.ndarray
    prior: dict[int, Owned]
    x: Intervals
    log_w: np.ndarray  # (count,)


class _Particles:
    """Codes a tile with coupled particles: all layers are popped, then x and all layers are pushed."""

    def __init__(
        self, model: LatentModel, emission: Emission, layers: Layers, particles: int
    ) -> None:
        self.model = model
        self.emission = emission
        self.layers = layers
        self.shifts = np.random.default_rng(0).integers(TOTAL, size=(particles, layers.width))
        self.shifts[0] = 0

    def push(self, stack: Stack, x: Tensor, count: int) -> None:
        width = self.layers.width
        many = len(self.shifts)
        stack.require(PRECISION * count * width + SPARE)
        position = stack.pop_uniform(whole(count * width)).reshape(count, width)
        position = (position + noise(x, count, width)) % TOTAL
        q = self.model.posterior(x)
        found = self._at(q, x, count, position)
        j = np.zeros(count, np.int64)
        if many > 1:
            j = stack.pop(_weights(found)).astype(np.int64)
            stack.require(SPARE)
        chosen = found[0] if many == 1 else self._given(q, x, count, _picked(found, j))
        offset = (position + self.shifts[j]) % TOTAL - chosen.start
        if (offset < 0).any() or (offset >= chosen.size).any():
            raise InputError(
                "bits_back: a law changed with its neighbours in a tile; code with tile=1"
            )
        stack.push_uniform(offset.ravel(), chosen.size.ravel())
        stack.push(chosen.x)
        for layer in reversed(self.layers.order):
            self.layers.push(stack, layer, chosen.bucket[:count], chosen.prior.get(layer))
        stack.push_uniform(j, np.full(count, many))

    def pop(self, stack: Stack, count: int) -> Tensor:
        j = stack.pop_uniform(np.full(count, len(self.shifts)))
        bucket = self.layers.middle()

        def pop(layer: int, law: Distribution) -> None:
            bucket[:count, self.layers.slices[layer]] = self.layers.pop(stack, layer, law, count)

        self.layers.walk_prior(bucket, pop)
        x = self.emission.pop(stack, self.layers.latent(bucket), count)
        q = self.model.posterior(x)
        start, size = self.layers.given(q, bucket, count)
        position = (
            start + stack.pop_uniform(size.ravel()).reshape(size.shape) - self.shifts[j]
        ) % TOTAL
        if len(self.shifts) > 1:
            stack.push(intervals(_weights(self._at(q, x, count, position)), j, np.arange(count)))
        position = (position - noise(x, count, self.layers.width)) % TOTAL
        stack.push_uniform(position.ravel(), whole(position.size))
        return x

    def _at(self, q: Distribution, x: Tensor, count: int, position: np.ndarray) -> list[_Particle]:
        """The particles that a position names, one after the other: each law is met in tiles of one shape."""
        shifted = ((position + shift) % TOTAL for shift in self.shifts)
        return [self._scored(x, count, *self.layers.at(q, each, count)) for each in shifted]

    def _given(self, q: Distribution, x: Tensor, count: int, bucket: np.ndarray) -> _Particle:
        return self._scored(x, count, bucket, *self.layers.given(q, bucket, count))

    def _scored(
        self, x: Tensor, count: int, bucket: np.ndarray, start: np.ndarray, size: np.ndarray
    ) -> _Particle:
        """A particle with its weight, of the frequencies it is coded with."""
        prior = self.layers.prior_intervals(bucket, count)
        owned = self.emission.intervals(self.layers.latent(bucket), x, count)
        log_w = (
            owned.log_mass(count)
            - np.log(size / TOTAL).sum(1)
            - self.layers.own_width * np.log(BUCKETS)
        )
        for _, mass in prior.values():
            log_w = log_w + np.log(mass / TOTAL).sum(1)
        return _Particle(bucket, start, size, prior, owned, log_w)


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
