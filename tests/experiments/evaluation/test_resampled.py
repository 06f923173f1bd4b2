"""Jackknife and bootstrap of scores: plain versions, batches, and what is null."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from experiments.evaluation.resampled import RESAMPLED, resampled, resampled_totals
from experiments.evaluation.score_columns import ScoreColumns


def columns(log_w: Tensor, replicates: int = 1) -> tuple[Tensor, Tensor]:
    rows = resampled(log_w, replicates)
    values = [torch.tensor([row[name] for row in rows]).double() for name in RESAMPLED]
    return values[0], values[1]


def estimate(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(0) - math.log(len(log_w))


def test_the_jackknife_is_that_of_estimates_without_one_weight() -> None:
    log_w = torch.randn(12, 3)
    whole = estimate(log_w)
    without = [estimate(torch.cat([log_w[:i], log_w[i + 1 :]])) for i in range(12)]
    expected = 12 * whole - 11 * torch.stack(without).mean(0)
    torch.testing.assert_close(columns(log_w)[0], expected)


def test_the_bootstrap_is_near_the_first_order_error_of_many_mild_weights() -> None:
    log_w = 0.3 * torch.randn(800, 4)
    w = log_w.exp()
    first_order = w.std(0) / w.mean(0) / math.sqrt(800)
    # 1000 resamples: a relative error of 1 / sqrt(2000)
    assert ((columns(log_w)[1] / first_order - 1).abs() < 5 / math.sqrt(2000) + 0.02).all()


@pytest.mark.parametrize("replicates", [1, 4])
def test_a_row_has_the_same_errors_in_any_batch_and_draws_nothing(replicates: int) -> None:
    log_w = torch.randn(20, 5)
    state = torch.get_rng_state()
    batch = resampled(log_w, replicates)
    assert torch.equal(torch.get_rng_state(), state)
    for i, row in enumerate(batch):
        (alone,) = resampled(log_w[:, i : i + 1], replicates)
        assert alone == pytest.approx(row)


def test_groups_take_the_place_of_weights() -> None:
    log_w = torch.randn(20, 2)
    means = log_w.unflatten(0, (4, 5)).logsumexp(1) - math.log(5)
    for grouped, plain in zip(resampled(log_w, 4), resampled(means, 1), strict=True):
        assert grouped == pytest.approx(plain)


def test_totals_are_the_mean_and_the_error_of_the_mean() -> None:
    rows = resampled(torch.randn(30, 6), 1)
    result, notes = resampled_totals(ScoreColumns.of(rows))
    assert notes == []
    assert result["jackknife_nats"] == pytest.approx(sum(row["jackknife_nats"] for row in rows) / 6)
    square = sum(row["bootstrap_standard_error_nats"] ** 2 for row in rows)
    assert result["bootstrap_standard_error_nats"] == pytest.approx(math.sqrt(square) / 6)


def with_nan(log_w: Tensor) -> Tensor:
    log_w[0, 0] = math.nan
    return log_w


def with_zeros(log_w: Tensor) -> Tensor:
    log_w[:, 0] = -math.inf
    return log_w


@pytest.mark.parametrize("spoil", [with_nan, with_zeros])
def test_numbers_that_are_not_finite_are_null_and_counted(
    spoil: Callable[[Tensor], Tensor],
) -> None:
    result, notes = resampled_totals(ScoreColumns.of(resampled(spoil(torch.randn(10, 3)), 1)))
    assert result == dict.fromkeys(RESAMPLED)
    for name, note in zip(RESAMPLED, notes, strict=True):
        assert note.startswith(f"{name} is not finite for 1 of 3 rows, so its mean is null: ")


def test_one_sample_has_neither_and_says_so() -> None:
    rows = resampled(torch.randn(1, 2), 1)
    assert rows == [dict.fromkeys(RESAMPLED)] * 2
    result, (note,) = resampled_totals(ScoreColumns.of(rows))
    assert result == dict.fromkeys(RESAMPLED)
    assert "are null: a single sample has neither" in note
