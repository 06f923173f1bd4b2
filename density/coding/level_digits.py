r"""Levels as digits: the tables of pixel laws, a digit at a time.

A level 0..levels-1 is one digit, or several of a radix of at most 16 where a law has a
distribution function F to evaluate at the edges of any range of levels: 32 edges of 256 levels
instead of 257. Each digit has a table given those before it:

.. math:: \text{start}_j = \Bigl\lfloor (\text{TOTAL} - 2\,\text{radix})\,
          \frac{F(e_j) - F(e_0)}{F(e_{\text{radix}}) - F(e_0)} \Bigr\rfloor + 2 j

where :math:`e_j` is the lower edge of the j-th part of the range. No part is empty, also where
rounding makes F decrease by its last digit.
"""

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.special import expit

from density.coding.ans import LEAST, TOTAL, frequencies
from density.likelihoods.distributions import BINARY, LARGEST_LOG_SCALE
from density.likelihoods.head import Output
from density.likelihoods.laws import SMALLEST_LEVEL_SCALE

__all__ = ["LevelDigits", "has_digits", "level_digits"]

RADIX = 16  # the most values of a digit of a logistic law
MOST_LEVELS = 2**16  # of tables of edges
SMALLEST_MASS = 1e-300  # of a part of a range: all of them underflow far from every component
LARGEST_LOGIT = 300.0  # of a component; further ones have no weight beside others


@runtime_checkable
class LevelDigits(Protocol):
    """The tables of one law, for the N values of a wave."""

    radix: int
    digits: int

    def prepare(self, numbers: np.ndarray) -> None:
        """Replace the numbers (numbers, N) of the network by the parameters of the law."""
        ...

    def starts(self, parameters: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return the starts of a digit's intervals, (N, radix + 1): from 0 to ``TOTAL``.

        ``prefix`` (N,) is the number that the digits before make.
        """
        ...


class BernoulliDigits:
    """Zeros and ones by their logit."""

    digits = 1
    radix = BINARY

    def __init__(self, head: Output) -> None:
        pass

    def prepare(self, numbers: np.ndarray) -> None:
        """Keep the logits."""

    def starts(self, parameters: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return 0, the start of one, and ``TOTAL``."""
        starts = np.empty((parameters.shape[1], BINARY + 1))
        starts[:, 0] = 0
        starts[:, 2] = TOTAL
        ones = expit(parameters[0]) * (TOTAL - LEAST * BINARY)
        np.subtract(TOTAL - LEAST, np.floor(ones, out=ones), out=starts[:, 1])
        return starts


class CategoricalDigits:
    """Levels by their logits: one digit."""

    digits = 1

    def __init__(self, head: Output) -> None:
        self.radix = head.pixels.levels

    def prepare(self, numbers: np.ndarray) -> None:
        """Keep the logits."""

    def starts(self, parameters: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return the sums of the frequencies of all levels below."""
        p = np.exp(parameters - parameters.max(0))
        table = frequencies((p / p.sum(0)).T)
        starts = np.zeros((len(table), self.radix + 1))
        np.cumsum(table, axis=1, out=starts[:, 1:])
        return starts


class LogisticDigits:
    """A mixture of logistics: means, scales and weights, in the unit of the network."""

    def __init__(self, head: Output) -> None:
        levels = head.pixels.levels
        spread = float(head.spread.max())
        self.components = head.pixels.components
        self.digits = max(1, math.ceil(round(math.log(levels, RADIX), 9)))
        self.radix = math.ceil(round(levels ** (1 / self.digits), 9))
        self.edges = []
        self.middles = []
        for digit in range(self.digits):
            edges = self._edges(digit, levels) / spread
            self.edges.append(edges)
            self.middles.append(edges[:, self.radix // 2])

        # bounds of log-scales, then of logits
        shift = math.log(spread)
        sides = (self.components, 1)
        lowest = math.log(SMALLEST_LEVEL_SCALE) - shift
        self.lowest = np.concatenate((np.full(sides, lowest), np.full(sides, -LARGEST_LOGIT)))
        highest = LARGEST_LOG_SCALE - shift
        self.highest = np.concatenate((np.full(sides, highest), np.full(sides, LARGEST_LOGIT)))
        self.least = LEAST * np.arange(self.radix + 1.0)
        self.smallest = SMALLEST_MASS * np.arange(self.radix + 1.0)

    def prepare(self, numbers: np.ndarray) -> None:
        """Replace log-scales by scales, and logits by weights, which sum to any number."""
        logs = numbers[self.components :]
        np.maximum(logs, self.lowest[: len(logs)], out=logs)
        np.minimum(logs, self.highest[: len(logs)], out=logs)
        np.exp(logs, out=logs)

    def starts(self, parameters: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return the starts of the parts of a range, by the mixture's distribution function."""
        by_kind = parameters.reshape(-1, self.components, parameters.shape[1])
        mass: np.ndarray
        if digit:
            mass = self._mass(by_kind, digit, prefix)
        else:
            mass = _weighted(by_kind[0], by_kind[1:], self.edges[0])

        mass *= (TOTAL - LEAST * self.radix) / mass[:, -1:]
        np.floor(mass, out=mass)
        mass += self.least
        mass[:, -1] = TOTAL
        return mass

    def _mass(self, by_kind: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return the mass from the lowest edge of a range to each of its edges, (N, radix + 1).

        A component whose mean is below the range is mirrored, so that its function is small, and
        exact to its last digits, where the masses of levels are small.
        """
        edges = self.edges[digit].take(prefix, 0)
        means = by_kind[0]
        mirrored = np.copysign(by_kind[1:], means - self.middles[digit].take(prefix))
        mass = _weighted(means, mirrored, edges)
        mass -= mass[:, :1].copy()
        np.maximum.accumulate(mass, axis=1, out=mass)
        mass += self.smallest
        return mass

    def _edges(self, digit: int, levels: int) -> np.ndarray:
        """Return the edges of the parts of every range in levels, (prefixes, radix + 1)."""
        size = self.radix ** (self.digits - digit - 1)  # levels of a part
        first = size * self.radix * np.arange(self.radix**digit)
        lowest = first[:, None] + size * np.arange(self.radix + 1)
        edges: np.ndarray = lowest - 0.5
        edges[lowest <= 0] = -np.inf
        edges[lowest >= levels] = np.inf
        return edges


def _weighted(means: np.ndarray, scales_and_weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    r"""Return :math:`\sum_m w_m \sigma((e - \mu_m) / s_m)` of the edges, (N, edges).

    ``scales_and_weights`` has the scales and, of several components, the weights; without weights
    they have the size 1 and the sign of the scale.
    """
    scales = scales_and_weights[0]
    weights = scales_and_weights[1] if len(scales_and_weights) > 1 else np.sign(scales)
    below = means[..., None] - edges
    below /= scales[..., None]
    np.exp(below, out=below)
    below += 1
    np.divide(weights[..., None], below, out=below)
    mass: np.ndarray = below.sum(0)
    return mass


_DIGITS: Mapping[str, type[BernoulliDigits] | type[CategoricalDigits] | type[LogisticDigits]] = {
    "bernoulli": BernoulliDigits,
    "categorical": CategoricalDigits,
    "logistic": LogisticDigits,
}


def has_digits(head: Output) -> bool:
    """Return whether a law has tables here: of so many levels, in one unit for all pixels."""
    pixels = head.pixels
    in_one_unit = bool((head.centre == 0).all() and (head.spread == head.spread.max()).all())
    return pixels.likelihood in _DIGITS and pixels.levels <= MOST_LEVELS and in_one_unit


def level_digits(head: Output) -> LevelDigits:
    """Return the tables of the law of pixels."""
    return _DIGITS[head.pixels.likelihood](head)
