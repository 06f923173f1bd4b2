"""Baselines of tables: closed forms, exact marginals of missing cells, and EM that climbs."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from sklearn.mixture import GaussianMixture

from density.tables import mixture_fit
from density.tables.baselines import BASELINES, baseline_nll
from density.tables.columns import Column, Columns
from density.tables.mixture_fit import fit_mixture

NUMBERS = Columns.numeric(("a", "b", "c"))
MIXED = Columns(
    [
        Column("a", "numeric"),
        Column("k", "count"),
        Column("b", "numeric"),
        Column("s", "categorical", ("x", "y", "z")),
    ]
)


def numbers(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    root = np.array([[1.0, 0, 0], [0.8, 0.5, 0], [0, -1, 2]])
    return rng.normal(size=(count, 3)) @ root.T * [1, 10, 100] + [0, 5, 4000]


def mixed(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, count)
    rows = np.stack(
        [
            rng.normal(6.0 * kind, 1),
            rng.negative_binomial(3, np.where(kind, 0.2, 0.6)),
            rng.normal(-100.0 * kind, 20),
            np.where(rng.random(count) < 0.9, kind, 2),
        ],
        1,
    )
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def test_one_gaussian_is_the_multivariate_normal_of_the_moments() -> None:
    x = numbers(400)
    model = fit_mixture(x, NUMBERS, 1)
    covariance = np.cov(x.T, bias=True) + mixture_fit.RIDGE * np.diag(x.var(0))
    expected = scipy.stats.multivariate_normal(x.mean(0), covariance).logpdf(x)
    np.testing.assert_allclose(model.log_prob(x), expected)


def test_independent_columns_are_the_product_of_their_normals() -> None:
    x = numbers(400)
    model = BASELINES["independent"].fit(x, NUMBERS)
    scale = x.std(0) * np.sqrt(1 + mixture_fit.RIDGE)
    np.testing.assert_allclose(
        model.log_prob(x), scipy.stats.norm(x.mean(0), scale).logpdf(x).sum(1)
    )


def test_a_mixture_of_complete_numbers_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(7, 2, (100, 2))])
    ours = fit_mixture(x, Columns.numeric(("a", "b")), 2)
    theirs = GaussianMixture(2, random_state=0, tol=1e-7).fit(x)
    assert ours.log_prob(x).mean() == pytest.approx(theirs.score(x), abs=2e-3)


def test_missing_numbers_have_the_marginal_density() -> None:
    x = numbers(300)
    model = fit_mixture(x, NUMBERS, 1)
    partial = x[:5].copy()
    partial[:, 1] = np.nan
    seen = [0, 2]
    marginal = scipy.stats.multivariate_normal(
        model.mean[0, seen], model.covariance[0][np.ix_(seen, seen)]
    )
    np.testing.assert_allclose(model.log_prob(partial), marginal.logpdf(x[:5][:, seen]))


def test_missing_counts_and_categories_are_summed_out() -> None:
    x = mixed(300)
    model = fit_mixture(x, MIXED, 2)
    row = np.array([[1.0, 4, -10, 1]])
    without = row.copy()
    without[0, [1, 3]] = np.nan
    total = 0.0
    for count in range(400):
        for category in range(3):
            total += np.exp(model.log_prob(np.array([[1.0, count, -10, category]])))[0]
    assert np.log(total) == pytest.approx(model.log_prob(without)[0], abs=1e-6)


def test_a_gaussian_is_recovered_from_incomplete_rows() -> None:
    x = numbers(4000)
    covariance = np.cov(x.T)
    holes = np.random.default_rng(1).random(x.shape) < 0.3
    model = fit_mixture(np.where(holes, np.nan, x), NUMBERS, 1)
    scale = np.sqrt(np.diag(covariance))
    error = (model.covariance[0] - covariance) / np.outer(scale, scale)
    assert np.abs(error).max() < 0.06  # filling holes with means would lose up to 0.5
    assert (np.abs(model.mean[0] - x.mean(0)) < 0.06 * scale).all()


@pytest.mark.parametrize("components", [1, 3])
def test_no_step_of_em_lowers_the_likelihood(components: int, monkeypatch) -> None:
    monkeypatch.setattr(mixture_fit, "RIDGE", 1e-9)
    monkeypatch.setattr(mixture_fit, "PSEUDO_COUNT", 1e-9)
    x = mixed(200)
    monkeypatch.setattr(mixture_fit, "TOLERANCE", 0.0)
    scores = []
    for steps in (1, 2, 3, 5, 9, 17):
        monkeypatch.setattr(mixture_fit, "STEPS", steps)
        scores.append(fit_mixture(x, MIXED, components).log_prob(x).mean())
    assert all(a <= b + 1e-6 for a, b in pairwise(scores))


def test_the_mixture_finds_two_groups_and_predicts_better() -> None:
    scores = baseline_nll(mixed(400), mixed(200, seed=1), MIXED)
    assert scores["components"] == 2
    assert scores["mixture"] < scores["gaussian"] - 0.3
    assert scores["gaussian"] < scores["independent"] - 0.1


def test_a_wide_table_has_no_baselines_and_says_why() -> None:
    columns = Columns.numeric([f"c{i}" for i in range(101)])
    result = baseline_nll(np.zeros((3, 101)), np.zeros((2, 101)), columns)
    assert result["mixture"] is None
    assert result["note"] == "baselines take at most 100 columns; there are 101"
