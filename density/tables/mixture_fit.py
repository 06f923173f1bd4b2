r"""Fit a mixture to rows with missing cells by EM.

The E-step takes the conditional mean and covariance of missing numbers in every component. The
M-step is exact: weighted moments of numbers, weighted frequencies of categories, and the negative
binomial of counts by maximum likelihood.

References:
    Maximum likelihood from incomplete data via the EM algorithm (Dempster et al., 1977)
    Supervised learning from incomplete data via an EM approach (Ghahramani & Jordan, 1994)
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from density.tables.columns import Columns
from density.tables.mixture import Layout, Mixture, log_counts

__all__ = ["fit_mixture"]

RIDGE = 1e-3  # added to the covariance of standardised numbers: a component may hold few rows
PSEUDO_COUNT = 0.5  # of each category in a component
SMALLEST_MEAN = 1e-3  # of a count
LOG_SIZES = (-6.0, 10.0)  # range of the log-size of a count; at its end the law is a Poisson
STEPS = 200  # of EM, at most
TOLERANCE = 1e-4  # nats per row below which EM ends


def fit_mixture(
    x: np.ndarray, columns: Columns, components: int, *, diagonal: bool = False, seed: int = 0
) -> Mixture:
    """Return the mixture of a number of components that EM fits to rows (N, columns).

    It starts from the clusters of k-means on standardised numbers and indicators of categories.

    Args:
        x: rows, with NaN for missing cells.
        columns: their schema.
        components: the number K of components.
        diagonal: whether numbers are independent within a component.
        seed: of k-means.
    """
    layout = Layout.of(columns)
    numbers = x[:, layout.numeric]
    centre = np.nanmean(numbers, 0) if numbers.size else np.zeros(numbers.shape[1])
    spread = np.nanstd(numbers, 0) if numbers.size else np.ones(numbers.shape[1])
    spread = np.where(spread > 0, spread, 1.0)
    scaled = x.copy()
    scaled[:, layout.numeric] = (numbers - centre) / spread

    responsibilities = _clusters(scaled, layout, components, seed)
    model = _maximised(scaled, layout, responsibilities, None, diagonal=diagonal)
    before = -np.inf
    for _ in range(STEPS):
        log_joint = model.log_joint(scaled)
        log_density = logsumexp(log_joint, axis=1)
        now = float(log_density.mean())
        if now - before < TOLERANCE:
            break
        before = now
        responsibilities = np.exp(log_joint - log_density[:, None])
        model = _maximised(scaled, layout, responsibilities, model, diagonal=diagonal)
    return _rescaled(model, centre, spread)


def _clusters(x: np.ndarray, layout: Layout, components: int, seed: int) -> np.ndarray:
    """Return the responsibilities (N, K) of the clusters of k-means."""
    if components == 1:
        return np.ones((len(x), 1))
    from sklearn.cluster import KMeans

    parts = [np.nan_to_num(x[:, layout.numeric]), np.nan_to_num(np.log1p(x[:, layout.counts]))]
    for position, size in zip(layout.categories, layout.sizes, strict=True):
        parts.append(x[:, position, None] == np.arange(size))
    features = np.concatenate(parts, 1)
    labels = KMeans(components, n_init=3, random_state=seed).fit_predict(features)
    return np.asarray(np.eye(components)[labels])


def _maximised(
    x: np.ndarray, layout: Layout, r: np.ndarray, previous: Mixture | None, *, diagonal: bool
) -> Mixture:
    """Return the parameters that maximise the expected log-density for responsibilities r."""
    total = r.sum(0) + np.finfo(float).tiny
    mean, covariance = _gaussians(x[:, layout.numeric], r, previous)
    if diagonal:
        covariance = covariance * np.eye(covariance.shape[-1])
    counts = np.array(
        [[_count(x[:, i], r[:, k]) for i in layout.counts] for k in range(r.shape[1])]
    ).reshape(r.shape[1], len(layout.counts), 2)
    tables = []
    for position, size in zip(layout.categories, layout.sizes, strict=True):
        weight = r.T @ (x[:, position, None] == np.arange(size)) + PSEUDO_COUNT
        tables.append(np.log(weight / weight.sum(1, keepdims=True)))
    return Mixture(
        layout,
        np.log(total / total.sum()),
        mean,
        covariance,
        counts[..., 0],
        counts[..., 1],
        tables,
    )


def _gaussians(
    x: np.ndarray, r: np.ndarray, previous: Mixture | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (K, D) and covariances (K, D, D) of standardised numbers with weights r (N, K).

    In the first step missing numbers have mean 0 and variance 1.
    """
    dims = x.shape[1]
    weight = (r / (r.sum(0) + np.finfo(float).tiny)).T
    covariance = np.tile(RIDGE * np.eye(dims), (r.shape[1], 1, 1))
    if previous is None:
        filled = np.tile(np.nan_to_num(x), (r.shape[1], 1, 1))
        covariance += (weight @ np.isnan(x))[:, :, None] * np.eye(dims)
    else:
        filled, left = previous.expectation(x)
        for rows, missing, rest in left:
            share = weight[:, rows].sum(1)[:, None, None]
            covariance[:, missing[:, None], missing] += share * rest
    mean = np.einsum("kn,knd->kd", weight, filled)
    deviation = filled - mean[:, None]
    covariance += (weight[:, :, None] * deviation).swapaxes(1, 2) @ deviation
    return mean, covariance


def _count(x: np.ndarray, r: np.ndarray) -> tuple[float, float]:
    """Return mean and size of a negative binomial by maximum likelihood, with weights r."""
    observed = ~np.isnan(x)
    weight = r[observed]
    cells = x[observed]
    mean = max(float((weight * cells).sum() / (weight.sum() + np.finfo(float).tiny)), SMALLEST_MEAN)

    def loss(log_size: float) -> float:
        return -float(weight @ log_counts(cells, mean, np.exp(log_size)))

    return mean, float(np.exp(minimize_scalar(loss, bounds=LOG_SIZES, method="bounded").x))


def _rescaled(model: Mixture, centre: np.ndarray, spread: np.ndarray) -> Mixture:
    """Return a mixture of standardised numbers in the units of the data."""
    return Mixture(
        model.layout,
        model.log_weights,
        centre + spread * model.mean,
        spread[:, None] * model.covariance * spread,
        model.count_mean,
        model.count_size,
        model.log_probabilities,
    )
