"""Errors of means over data some of which are equal."""

import pytest
import torch

from density.estimation.mean_errors import error_of_estimates, error_over_data


def test_errors_of_equal_data_add_and_those_of_others_add_in_squares() -> None:
    errors = torch.tensor([3.0, 1.0, 3.0, 2.0])
    assert error_of_estimates(errors, torch.arange(4)) == pytest.approx(23**0.5 / 4)
    assert error_of_estimates(errors, torch.tensor([-5, 7, -5, 7])) == pytest.approx(45**0.5 / 4)
    assert error_of_estimates(errors, torch.zeros(4, dtype=torch.long)) == pytest.approx(9 / 4)


def test_copies_of_one_datum_have_the_error_of_one_estimate() -> None:
    values = torch.full((64,), -7.0)
    errors = torch.full((64,), 0.9)
    assert error_over_data(values, errors, torch.zeros(64, dtype=torch.long)) == pytest.approx(0.9)
    assert error_over_data(values, errors, torch.arange(64)) == 0.0


def test_the_error_over_data_is_the_deviation_of_means_of_data_that_repeat() -> None:
    generator = torch.Generator().manual_seed(0)
    # 12 data of 5 kinds; the estimate of a kind has a deviation of 0.8, its truth one of 1.5
    kinds = torch.randint(5, (1500, 12), generator=generator)
    truth = 1.5 * torch.randn(5, generator=generator)
    truth = (truth - truth.mean()) / truth.std() * 1.5
    estimates = truth + 0.8 * torch.randn(1500, 5, generator=generator)
    values = estimates.gather(1, kinds)
    errors = torch.full((12,), 0.8)
    stated = [
        error_over_data(row, errors, kind) ** 2 for row, kind in zip(values, kinds, strict=True)
    ]
    assert torch.tensor(stated).mean().sqrt() == pytest.approx(
        values.mean(1).std().item(), rel=0.05
    )
    unaware = [error_over_data(row, errors, torch.arange(12)) ** 2 for row in values]
    assert torch.tensor(unaware).mean().sqrt() < 0.9 * values.mean(1).std()
