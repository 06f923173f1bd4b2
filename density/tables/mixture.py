r"""A mixture for rows of numbers, counts and categories with missing cells.

.. math:: p(x) = \sum_k \pi_k\, N(x_{\text{numeric}}; \mu_k, \Sigma_k)
          \prod_{d \text{ count}} \text{NB}(x_d; m_{kd}, r_{kd})
          \prod_{d \text{ categorical}} \theta_{kd x_d}

Within a component numbers are jointly Gaussian, and independent of counts and categories. Missing
cells are integrated out exactly. :mod:`density.tables.mixture_fit` fits it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp

from density.tables.columns import Columns

__all__ = ["Layout", "Mixture", "log_counts", "patterns"]


@dataclass(frozen=True)
class Layout:
    """The positions of the columns of each kind, and the numbers of categories."""

    numeric: list[int]
    counts: list[int]
    categories: list[int]
    sizes: list[int]

    @classmethod
    def of(cls, columns: Columns) -> "Layout":
        """Return the layout of a schema."""
        positions: dict[str, list[int]] = {"numeric": [], "count": [], "categorical": []}
        for i, column in enumerate(columns):
            positions[column.kind].append(i)
        sizes = [columns.sizes[i] for i in positions["categorical"]]
        return cls(positions["numeric"], positions["count"], positions["categorical"], sizes)


class _Left(NamedTuple):
    """The covariance of missing numbers given the observed ones, of rows of one pattern."""

    rows: np.ndarray
    missing: np.ndarray  # positions of the missing numbers
    covariance: np.ndarray  # (K, missing, missing)


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture; see the module.

    Args:
        layout: the columns of each kind.
        log_weights: (K,).
        mean: of numbers, (K, D).
        covariance: of numbers, (K, D, D).
        count_mean: of counts, (K, C).
        count_size: of counts, (K, C).
        log_probabilities: of each categorical column, (K, categories).
    """

    layout: Layout
    log_weights: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    count_mean: np.ndarray
    count_size: np.ndarray
    log_probabilities: list[np.ndarray]

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Return the log-density of rows (N, columns) in nats, missing cells integrated out."""
        return np.asarray(logsumexp(self.log_joint(x), axis=1))

    def log_joint(self, x: np.ndarray) -> np.ndarray:
        """Return log-density of rows and component, (N, K)."""
        total = np.tile(self.log_weights, (len(x), 1))
        total += self._gaussian_terms(x[:, self.layout.numeric])
        for i, position in enumerate(self.layout.counts):
            for k in range(len(self.log_weights)):
                total[:, k] += log_counts(
                    x[:, position], self.count_mean[k, i], self.count_size[k, i]
                )
        for table, position in zip(self.log_probabilities, self.layout.categories, strict=True):
            observed = ~np.isnan(x[:, position])
            total[observed] += table[:, x[observed, position].astype(int)].T
        return total

    def expectation(self, x: np.ndarray) -> tuple[np.ndarray, list[_Left]]:
        """Return numbers (K, N, D) with missing ones at their conditional mean, by component.

        Beside them stand, for each pattern of missing numbers, what is left of their covariance
        given the observed ones.
        """
        filled = np.tile(x, (len(self.mean), 1, 1))
        left = []
        for rows, seen in patterns(x):
            unseen = ~seen
            if not unseen.any():
                continue
            between = self.covariance[:, unseen][:, :, seen]
            among = self.covariance[:, seen][:, :, seen]
            gain = np.linalg.solve(among, between.swapaxes(1, 2)).swapaxes(1, 2)
            deviation = x[rows][:, seen] - self.mean[:, None, seen]
            values = self.mean[:, None, unseen] + deviation @ gain.swapaxes(1, 2)
            filled[:, rows[:, None], np.flatnonzero(unseen)] = values
            rest = self.covariance[:, unseen][:, :, unseen] - gain @ between.swapaxes(1, 2)
            left.append(_Left(rows, np.flatnonzero(unseen), rest))
        return filled, left

    def _gaussian_terms(self, x: np.ndarray) -> np.ndarray:
        terms = np.zeros((len(x), len(self.log_weights)))
        for rows, seen in patterns(x):
            if not seen.any():
                continue
            root = np.linalg.cholesky(self.covariance[:, seen][:, :, seen])
            deviation = x[rows][:, seen] - self.mean[:, None, seen]
            u = np.linalg.solve(root, deviation.swapaxes(1, 2))
            log_root = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
            constant = seen.sum() * np.log(2 * np.pi) / 2
            terms[rows] = (-(u**2).sum(1) / 2 - log_root[:, None] - constant).T
        return terms

    @property
    def parameter_count(self) -> int:
        """The number of free parameters, for BIC."""
        components = len(self.mean)
        dims = len(self.layout.numeric)
        each = dims + dims * (dims + 1) // 2 + 2 * len(self.layout.counts)
        each += sum(size - 1 for size in self.layout.sizes)
        return components * each + components - 1


def log_counts(x: np.ndarray, mean: float, size: float) -> np.ndarray:
    """Return the log-probabilities of counts, 0 where one is missing."""
    total = size + mean
    terms: np.ndarray = gammaln(x + size) - gammaln(x + 1) - gammaln(size)
    terms += size * np.log(size / total) + x * np.log(mean / total)
    return np.asarray(np.nan_to_num(terms, nan=0.0))


def patterns(x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows of each pattern of observed numbers, with the pattern (D,)."""
    seen, pattern_of = np.unique(~np.isnan(x), axis=0, return_inverse=True)
    return [(np.flatnonzero(pattern_of.reshape(-1) == i), seen[i]) for i in range(len(seen))]
