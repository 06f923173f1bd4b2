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
from typing import Protocol

import numpy as np
from scipy.special import expit

from density.coding.ans import LEAST, TOTAL, frequencies
from density.likelihoods.distributions import BINARY, LARGEST_LOG_SCALE
from density.likelihoods.head import Pixels
from density.likelihoods.laws import SMALLEST_LEVEL_SCALE

__all__ = ["LevelDigits", "has_digits", "level_digits"]

RADIX = 16  # the most values of a digit of a logistic law
MOST_LEVELS = 2**16  # of tables of edges
SMALLEST_MASS = 1e-300  # of a part of a range: all of them underflow far from every component


class LevelDigits(Protocol):
    """The tables of one law, for the N values of a wave.

    ``prefix`` (N,) is the number that the digits before make.
    """

    radix: int
    digits: int

    def parameters(self, numbers: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Return parameters (parameters, N) from the numbers (numbers, tile, P, channels)."""
        ...

    def starts(self, parameters: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return the starts of a digit's intervals, (N, radix + 1): from 0 to ``TOTAL``."""
        ...


class BernoulliDigits:
    """Zeros and ones by their logit."""

    digits = 1
    radix = BINARY

    def __init__(self, pixels: Pixels) -> None:
        pass

    def parameters(self, numbers: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Return the logits (1, N)."""
        return numbers.reshape(1, -1)

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

    def __init__(self, pixels: Pixels) -> None:
        self.radix = pixels.levels

    def parameters(self, numbers: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Return the logits (levels, N)."""
        return numbers.reshape(self.radix, -1)

    def starts(self, parameters: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return the sums of the frequencies of all levels below."""
        p = np.exp(parameters - parameters.max(0))
        table = frequencies((p / p.sum(0)).T)
        starts = np.zeros((len(table), self.radix + 1))
        np.cumsum(table, axis=1, out=starts[:, 1:])
        return starts


class LogisticDigits:
    """A mixture of logistics: means, scales and weights, in the unit of a level."""

    def __init__(self, pixels: Pixels) -> None:
        self.components = pixels.components
        self.digits = max(1, math.ceil(round(math.log(pixels.levels, RADIX), 9)))
        self.radix = math.ceil(round(pixels.levels ** (1 / self.digits), 9))
        self.edges = []
        self.middles = []
        for digit in range(self.digits):
            edges = self._edges(digit, pixels.levels)
            self.edges.append(edges)
            self.middles.append(edges[:, self.radix // 2])
        self.least = LEAST * np.arange(self.radix + 1.0)
        self.smallest = SMALLEST_MASS * np.arange(self.radix + 1.0)

    def parameters(self, numbers: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Return means, scales and weights, (3, components, N) as (3 components, N)."""
        means, log_scales, *logits = numbers.reshape(-1, self.components, *numbers.shape[1:])
        result = np.empty((3, *means.shape))
        np.multiply(means, spread, out=result[0])
        scales = np.add(log_scales, np.log(spread), out=result[1])
        np.maximum(scales, math.log(SMALLEST_LEVEL_SCALE), out=scales)
        np.minimum(scales, LARGEST_LOG_SCALE, out=scales)
        np.exp(scales, out=scales)
        result[2] = 1
        if logits:
            weights = np.exp(logits[0] - logits[0].max(0), out=result[2])
            weights /= weights.sum(0)
        return result.reshape(3 * self.components, -1)

    def starts(self, parameters: np.ndarray, digit: int, prefix: np.ndarray) -> np.ndarray:
        """Return the starts of the parts of a range, by the mixture's distribution function.

        A component whose mean is below the range is mirrored, so that its function is small, and
        exact to its last digits, where the masses of levels are small.
        """
        means, scales, weights = parameters.reshape(3, self.components, -1)
        edges = self.edges[digit]
        middle = self.middles[digit]
        if digit:
            edges = edges[prefix]
            middle = middle[prefix]
        side = means - middle
        scales = np.copysign(scales, side)
        weights = np.copysign(weights, side)

        # 1 / (1 + e^-u), with u = (edge - mean) / scale
        below = means[..., None] - edges
        below /= scales[..., None]
        np.exp(below, out=below)
        below += 1
        np.reciprocal(below, out=below)
        below -= below[..., :1].copy()
        below *= weights[..., None]
        mass = below.sum(0)

        np.maximum.accumulate(mass, axis=1, out=mass)
        mass += self.smallest
        mass *= (TOTAL - LEAST * self.radix) / mass[:, -1:]
        np.floor(mass, out=mass)
        mass += self.least
        mass[:, -1] = TOTAL
        return mass

    def _edges(self, digit: int, levels: int) -> np.ndarray:
        """Return the edges of the parts of every range, (prefixes, radix + 1)."""
        size = self.radix ** (self.digits - digit - 1)  # levels of a part
        first = size * self.radix * np.arange(self.radix**digit)
        lowest = first[:, None] + size * np.arange(self.radix + 1)
        edges = lowest - 0.5
        edges[lowest <= 0] = -np.inf
        edges[lowest >= levels] = np.inf
        return edges


_DIGITS: Mapping[str, type[BernoulliDigits] | type[CategoricalDigits] | type[LogisticDigits]] = {
    "bernoulli": BernoulliDigits,
    "categorical": CategoricalDigits,
    "logistic": LogisticDigits,
}


def has_digits(pixels: Pixels) -> bool:
    """Return whether the law of pixels has tables here, and of so many levels."""
    return pixels.likelihood in _DIGITS and pixels.levels <= MOST_LEVELS


def level_digits(pixels: Pixels) -> LevelDigits:
    """Return the tables of the law of pixels."""
    return _DIGITS[pixels.likelihood](pixels)
