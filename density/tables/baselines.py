"""Baselines of a table's likelihood: independent columns, one Gaussian, and a mixture.

All three are members of :class:`density.tables.mixture.Mixture`, so their held-out NLL is in nats
per row in the units of the data, with missing cells integrated out: comparable with that of a VAE
of the same table. Counts and categories are independent of the numbers except through the
components of the mixture, whose number minimises BIC on the training set.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from density.tables.columns import Columns
from density.tables.mixture import Mixture
from density.tables.mixture_fit import fit_mixture
from univae.checkpoint import JsonObject

__all__ = ["BASELINES", "Baseline", "baseline_nll"]

MOST_ROWS = 2000  # rows of the training set that are fitted, the first of a random order
MOST_COLUMNS = 100  # beyond, full covariances take too long
MOST_COMPONENTS = 10
ROWS_OF_A_COMPONENT = 10  # at least, on average
WORSE = 2  # numbers of components in a row whose BIC is worse, before the search ends


@dataclass(frozen=True)
class Baseline:
    """A row of :data:`BASELINES`."""

    summary: str
    fit: Callable[[np.ndarray, Columns], Mixture]


def _independent(x: np.ndarray, columns: Columns) -> Mixture:
    return fit_mixture(x, columns, 1, diagonal=True)


def _gaussian(x: np.ndarray, columns: Columns) -> Mixture:
    return fit_mixture(x, columns, 1)


def _mixture(x: np.ndarray, columns: Columns) -> Mixture:
    """Return the mixture of the lowest BIC on the rows."""
    best = fit_mixture(x, columns, 1)
    lowest = _bic(best, x)
    worse = 0
    for components in range(2, min(MOST_COMPONENTS, len(x) // ROWS_OF_A_COMPONENT) + 1):
        model = fit_mixture(x, columns, components)
        bic = _bic(model, x)
        worse = 0 if bic < lowest else worse + 1
        if bic < lowest:
            best = model
            lowest = bic
        if worse == WORSE:
            break
    return best


def _bic(model: Mixture, x: np.ndarray) -> float:
    return float(model.parameter_count * np.log(len(x)) - 2 * model.log_prob(x).sum())


BASELINES: Mapping[str, Baseline] = {
    "independent": Baseline("independent columns", _independent),
    "gaussian": Baseline("one Gaussian", _gaussian),
    "mixture": Baseline("a mixture of Gaussians", _mixture),
}


def baseline_nll(train: np.ndarray, held_out: np.ndarray, columns: Columns) -> JsonObject:
    """Return the held-out NLL of every baseline in nats per row, fitted to the training rows.

    Where a baseline cannot be fitted its number is null, with the reason in ``note``.

    Args:
        train: rows (N, columns), NaN for missing cells.
        held_out: rows (M, columns).
        columns: their schema.
    """
    if len(columns) > MOST_COLUMNS:
        return _without(f"baselines take at most {MOST_COLUMNS} columns; there are {len(columns)}")
    order = np.random.default_rng(0).permutation(len(train))[:MOST_ROWS]
    rows = train[np.sort(order)]
    result: JsonObject = {}
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # k-means warns of fewer different rows than clusters
            for name, baseline in BASELINES.items():
                model = baseline.fit(rows, columns)
                result[name] = float(-model.log_prob(held_out).mean())
                result["components"] = len(model.log_weights)
    except (ValueError, np.linalg.LinAlgError) as error:
        return _without(f"baselines cannot be fitted: {error}")
    if not all(np.isfinite(result[name]) for name in BASELINES):
        return _without("baselines cannot be fitted: the numbers are too large for their squares")
    return result


def _without(reason: str) -> JsonObject:
    return {**dict.fromkeys(BASELINES), "components": None, "note": reason}
