"""Times at equal error from curves whose law is known."""

import math

import numpy as np
import pytest
import torch

from experiments.benchmarks.equal_error_curves import (
    Contestant,
    Curve,
    Draw,
    measured,
    ratios,
    time_at_error,
)

SIZES = (10, 100, 1000)


def curve(seconds_per_sample: float, error: float, bias: float = 0.0) -> Curve:
    """Return a curve of errors ``error`` / sqrt K, of two repetitions that lie on both sides."""
    deviation = error / np.sqrt(np.array(SIZES))[:, None] / math.sqrt(2)
    pair = np.stack([-deviation, deviation], 1)  # whose deviation is the error
    estimates = np.broadcast_to(pair, (3, 2, 4)) + bias
    seconds = seconds_per_sample * np.array(SIZES)[:, None] * np.ones(2)
    return Curve(SIZES, seconds, estimates, np.full((3, 2, 4), np.nan))


def test_the_spread_is_the_deviation_between_repetitions_and_the_rmse_includes_the_bias() -> None:
    data = np.arange(4)
    unbiased = curve(1.0, 2.0)
    np.testing.assert_allclose(unbiased.spread(data), 2 / np.sqrt(SIZES))
    biased = curve(1.0, 2.0, bias=-3.0)
    np.testing.assert_allclose(biased.spread(data), unbiased.spread(data))
    expected = np.sqrt(4 / np.array(SIZES) / 2 + 9)
    np.testing.assert_allclose(biased.rmse(np.zeros(4), data), expected)
    rows = biased.rows(np.zeros(4))
    assert [row["samples"] for row in rows] == list(SIZES)
    assert rows[0]["bias_nats"] == pytest.approx(-3.0)
    assert rows[0]["claimed_nats"] is None


def test_a_quarter_of_the_time_and_half_of_the_error_are_sixteen_times_less_time() -> None:
    rows = ratios(curve(4.0, 2.0), curve(1.0, 1.0), np.zeros(4), fixed=0.0)
    # the error of 10 samples is beyond that of the other's fewest: 10 samples are compared
    assert rows[0]["ratio"] == pytest.approx(4.0)
    assert rows[0]["at_least"]
    for row in rows[1:]:
        assert row["ratio"] == pytest.approx(16.0)
        assert row["ratio_by_rmse"] == pytest.approx(16.0)
        assert row["over_rounds"] == pytest.approx([16.0] * 3)
        assert row["interval_90"] == pytest.approx([16.0] * 2)
        assert not row["at_least"]
    paid = ratios(curve(4.0, 2.0), curve(1.0, 1.0), np.zeros(4), fixed=150.0)
    assert paid[2]["ratio_with_fixed_cost"] == pytest.approx(4000 / (250 + 150))


def test_a_size_that_is_precise_by_chance_does_not_shorten_the_time() -> None:
    errors = np.array([0.4, 0.05, 0.1])
    seconds = np.array([1.0, 2.0, 4.0])
    assert time_at_error(errors, seconds, 0.2) == pytest.approx(2**0.5)  # between 0.4 and 0.1
    assert time_at_error(errors, seconds, 0.8) == pytest.approx(1.0)
    assert math.isnan(time_at_error(errors, seconds, 0.09))


def test_every_contestant_is_run_at_each_size_once_a_round_with_its_own_seed() -> None:
    calls = []

    def run(size: int) -> Draw:
        calls.append(size)
        return Draw(torch.randn(3), torch.full((3,), 0.5))

    curves = measured({"a": Contestant((2, 4), run), "b": Contestant((8,), run)}, repeats=3)
    assert calls == [2, 8] + [2, 4, 8] * 3  # first one of each that is not timed
    assert curves["a"].estimates.shape == (2, 3, 3)
    assert curves["a"].seconds.shape == (2, 3)
    assert len(np.unique(curves["a"].estimates)) == 18
    # other contestants meet the same seeds
    np.testing.assert_array_equal(curves["a"].estimates[0], curves["b"].estimates[0])
    assert curves["a"].rows(np.zeros(3))[0]["claimed_nats"] == pytest.approx(0.5)
