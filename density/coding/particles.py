r"""Bits-back coding of a tile: all layers are popped, then x and all layers are pushed.

=====================================================================  =========================
push (read downward)                                                    pop (read upward)
=====================================================================  =========================
pop a position r, uniform on the integers; it gives :math:`z_k`         push r
pop j with probability :math:`w_j / \sum_k w_k`                         push j by these
push where in its interval of :math:`q(z_j \mid x)` r lies              pop it: r is known
push x by :math:`p(x \mid z_j)`                                         pop x
push :math:`z_j` by :math:`p(z)`                                        pop :math:`z_j`
push j, uniform                                                         pop j
=====================================================================  =========================

The net cost is :math:`-\log_2 \frac1K \sum_k w_k` bits with :math:`w_k = p(x, z_k) / q(z_k \mid
x)`: the negative ELBO at K = 1 (BB-ANS), the importance-weighted bound at larger K. The particles
are coupled, :math:`z_k` lies at position :math:`r + s_k` of the posterior's tables with fixed
shifts s, so that they cost the initial bits of one.

References:
    Practical lossless compression with latent variables using bits back coding (Townsend et al.,
        2019), https://arxiv.org/abs/1901.04866
    Improving Lossless Compression Rates via Monte Carlo Bits-Back Coding (Ruan et al., 2021),
        https://arxiv.org/abs/2102.11086
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple

import numpy as np
from torch import Tensor
from torch.distributions import Distribution

from density.coding.ans import (
    PRECISION,
    SPARE,
    TOTAL,
    Intervals,
    Stack,
    frequencies,
    full_sizes,
    intervals,
)
from density.coding.buckets import BUCKETS, Span
from density.coding.data_code import Emission, Rows, noise
from density.coding.gaussians import Gaussians
from density.coding.latents import Layers
from density.model import LatentModel
from univae.errors import InputError

__all__ = ["ParticleCode"]


class _Particle(NamedTuple):
    """A latent for each row of a tile, and the intervals of its code."""

    bucket: np.ndarray  # (tile, width)
    posterior: Span
    prior: dict[int, Span]
    x: Intervals
    log_w: np.ndarray  # (count,)


class ParticleCode(Generic[Rows]):
    """Code tiles of rows by a model, with one latent a row or the best of several."""

    def __init__(
        self, model: LatentModel, emission: Emission[Rows], layers: Layers, particles: int
    ) -> None:
        self.model = model
        self.emission: Emission[Rows] = emission
        self.layers = layers
        generator = np.random.default_rng(0)
        self.shifts = generator.integers(TOTAL, size=(particles, layers.width))
        self.shifts[0] = 0

    def push(self, stack: Stack, x: Tensor, count: int) -> None:
        """Push the first ``count`` rows of a tile.

        Raises:
            Exhausted: the message is too short to pop the latents from.
        """
        width = self.layers.width
        stack.require(PRECISION * count * width + SPARE)
        position = stack.pop_uniform(full_sizes(count * width)).reshape(count, width)
        position = (position + noise(x, count, width)) % TOTAL

        j, particle = self._pop_choice(stack, x, count, position)
        offset = (position + self.shifts[j]) % TOTAL - particle.posterior.start
        size = particle.posterior.size
        if (offset < 0).any() or (offset >= size).any():
            raise InputError(
                "compress: a distribution depends on other rows of its tile; use tile=1"
            )
        stack.push_uniform(offset.ravel(), size.ravel())
        stack.push(particle.x)
        self.layers.push_all(stack, particle.bucket, particle.prior, count)
        stack.push_uniform(j, np.full(count, len(self.shifts)))

    def pop(self, stack: Stack, count: int) -> Tensor:
        """Pop the tile that :meth:`push` pushed."""
        j = stack.pop_uniform(np.full(count, len(self.shifts)))
        bucket = self.layers.pop_all(stack, count)
        x = self.emission.pop(stack, self.layers.latent(bucket), count)

        q = self.model.posterior(x)
        start, size = self.layers.spans(
            self.layers.posterior_conditionals(q, bucket), bucket, count
        )
        offset = stack.pop_uniform(size.ravel()).reshape(size.shape)
        position = (start + offset - self.shifts[j]) % TOTAL
        self._push_choice(stack, q, x, position, j)

        position = (position - noise(x, count, self.layers.width)) % TOTAL
        stack.push_uniform(position.ravel(), full_sizes(position.size))
        return x

    def _pop_choice(
        self, stack: Stack, x: Tensor, count: int, position: np.ndarray
    ) -> tuple[np.ndarray, _Particle]:
        """Pop the index of each row's particle, (count,), and return it with that particle."""
        q = self.model.posterior(x)
        particles = self._particles(q, x, position)
        if len(particles) == 1:
            return np.zeros(count, np.int64), particles[0]
        j = stack.pop(_weights(particles)).astype(np.int64)
        stack.require(SPARE)
        bucket = _buckets_of(particles, j)
        return j, self._particle(self.layers.posterior_conditionals(q, bucket), x, bucket, count)

    def _push_choice(
        self, stack: Stack, q: Distribution, x: Tensor, position: np.ndarray, j: np.ndarray
    ) -> None:
        """Push what :meth:`_pop_choice` popped."""
        if len(self.shifts) > 1:
            table = _weights(self._particles(q, x, position))
            stack.push(intervals(table, j, np.arange(len(j))))

    def _particles(self, q: Distribution, x: Tensor, position: np.ndarray) -> list[_Particle]:
        """Return the particles at a position, evaluated in tiles of one shape."""
        particles = []
        for shift in self.shifts:
            bucket, conditionals = self.layers.posterior_at(q, (position + shift) % TOTAL)
            particles.append(self._particle(conditionals, x, bucket, len(position)))
        return particles

    def _particle(
        self, conditionals: dict[int, Gaussians], x: Tensor, bucket: np.ndarray, count: int
    ) -> _Particle:
        """Return a particle with its log-weight, by the frequencies that it is coded with."""
        posterior = self.layers.spans(conditionals, bucket, count)
        prior = self.layers.prior_spans(bucket, count)
        symbols = self.emission.intervals(self.layers.latent(bucket), x, count)
        log_w = (
            symbols.log_mass(count)
            - np.log(posterior.size / TOTAL).sum(1)
            - self.layers.uniform_width * np.log(BUCKETS)
        )
        for span in prior.values():
            log_w = log_w + np.log(span.size / TOTAL).sum(1)
        return _Particle(bucket, posterior, prior, symbols, log_w)


def _weights(particles: Sequence[_Particle]) -> np.ndarray:
    """Return the frequencies of the particles, (count, particles)."""
    log_w = np.stack([particle.log_w for particle in particles], 1)
    w = np.exp(log_w - log_w.max(1, keepdims=True))
    return frequencies(w / w.sum(1, keepdims=True))


def _buckets_of(particles: Sequence[_Particle], j: np.ndarray) -> np.ndarray:
    """Return the buckets of particle j of each row; padding is the same in all."""
    bucket = particles[0].bucket.copy()
    for row, k in enumerate(j):
        bucket[row] = particles[k].bucket[row]
    return bucket
