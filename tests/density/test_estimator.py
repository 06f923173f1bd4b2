"""``density.DensityEstimator`` keeps scikit-learn's conventions, and its densities have units."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from density import DensityEstimator
from density.estimator import SameNoise
from univae.errors import InputError

TINY: dict[str, Any] = {"latents": 1, "hidden": (4,), "steps": 2, "samples": 8, "random_state": 0}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.normal(5000, 300, 200), rng.normal(0, 0.01, 200)], 1)


@pytest.fixture(scope="module")
def fitted(rows: np.ndarray) -> DensityEstimator:
    torch.set_default_dtype(torch.float32)
    estimator = DensityEstimator(latents=1, hidden=(16,), steps=150, samples=64, random_state=0)
    return estimator.fit(rows)


# Checks that fail, each with its reason.
EXPECTED_FAILURES = {
    "check_do_not_raise_errors_in_init_or_set_params": "types are checked while tests run, by the "
    "import hook of conftest.py; without it the check passes",
}


@pytest.mark.slow
def test_the_checks_of_scikit_learn_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("univae.atomic_files.sync", lambda path: None)  # fits by the dozen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that are skipped
        results = check_estimator(
            DensityEstimator(**TINY), on_fail=None, expected_failed_checks=EXPECTED_FAILURES
        )
    failed = [result["check_name"] for result in results if result["status"] == "failed"]
    assert failed == []
    assert len(results) > 30


def test_densities_are_in_the_units_of_the_data(fitted: DensityEstimator, rows: np.ndarray) -> None:
    truth = norm(5000, 300).logpdf(rows[:, 0]) + norm(0, 0.01).logpdf(rows[:, 1])
    assert fitted.score(rows) == pytest.approx(truth.mean(), abs=0.25)
    samples = fitted.sample(300, random_state=1)
    units = np.array([300, 0.01])
    assert (np.abs(samples.mean(0) - [5000, 0]) < units / 2).all()
    np.testing.assert_allclose(samples.std(0), units, rtol=0.5)


def test_the_density_of_a_row_does_not_depend_on_the_others(
    fitted: DensityEstimator, rows: np.ndarray
) -> None:
    whole = fitted.score_samples(rows[:30])
    np.testing.assert_allclose(fitted.score_samples(rows[7:9]), whole[7:9], atol=1e-9)
    assert fitted.score(rows[:30]) == pytest.approx(whole.mean())


def test_a_seed_repeats_the_fit_and_a_copy_keeps_it(
    fitted: DensityEstimator, rows: np.ndarray
) -> None:
    first, again = (DensityEstimator(**TINY).fit(rows).score_samples(rows[:3]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = clone(DensityEstimator(**TINY)).set_params(random_state=1).fit(rows)
    assert (other.score_samples(rows[:3]) != first).any()
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.score_samples(rows[:3]), fitted.score_samples(rows[:3]))


def test_a_frame_names_the_columns(rows: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows[:30], columns=["mass", "width"])
    estimator = DensityEstimator(**TINY).fit(frame)
    assert list(estimator.feature_names_in_) == ["mass", "width"]
    assert estimator.n_features_in_ == 2
    assert estimator.score_samples(frame).shape == (30,)
    with pytest.raises(ValueError, match="feature names"):
        estimator.score_samples(frame[["width", "mass"]])


def test_one_width_is_one_hidden_layer(rows: np.ndarray) -> None:
    alone = DensityEstimator(hidden=8, steps=3, random_state=0).fit(rows)
    listed = DensityEstimator(hidden=[8], steps=3, random_state=0).fit(rows)
    np.testing.assert_array_equal(alone.score_samples(rows[:4]), listed.score_samples(rows[:4]))


def test_missing_values_and_bad_parameters_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="NaN"):
        DensityEstimator(**TINY).fit([[0.0, np.nan], [1.0, 2.0]])
    with pytest.raises(InputError, match="steps must be at least 1"):
        DensityEstimator(**{**TINY, "steps": 0}).fit(rows)


def test_the_shared_noise_gives_unbiased_weights() -> None:
    from test_scores import LinearGaussian

    import density

    x = torch.linspace(-2, 2, 5, dtype=torch.float64)
    model = LinearGaussian(1.2)
    log_w = density.log_weights(model, x, 4096, proposal=SameNoise(3))
    torch.testing.assert_close(density.log_likelihood(log_w), model.evidence(x), atol=1e-3, rtol=0)
