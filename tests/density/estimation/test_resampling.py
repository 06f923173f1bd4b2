"""The jackknife removes the bias of the logarithm; the bootstrap agrees with the spread."""

import math
from itertools import combinations

import pytest
import torch
from test_importance import by_hand
from torch import Tensor

from density import bootstrap_standard_error, jackknife, log_likelihood, log_weights
from density.estimation import resampling
from density.estimation.diagnostics import replicate_means, standard_error
from density.estimation.resampling import coefficients
from univae.errors import InputError

VARIANCE = 0.2906  # of the weights of the hand case, whose mean is 1
THIRD_MOMENT = -0.0646  # about the mean


def hand_case(samples: int, runs: int) -> Tensor:
    """Log-weights (K, runs) relative to the evidence, by hand; their moments are by quadrature."""
    model = by_hand(0.8, 0.5)
    x = torch.full((runs, 1), 1.2)
    return log_weights(model, x, samples) - model.evidence(x)


def plain(log_w: Tensor, order: int) -> Tensor:
    """The formula, subset by subset."""
    count = len(log_w)
    terms = []
    for j, factor in enumerate(coefficients(count, order)):
        subsets = [log_w[list(rows)] for rows in combinations(range(count), count - j)]
        means = torch.stack([subset.logsumexp(0) - math.log(count - j) for subset in subsets])
        terms.append(factor * means.mean(0))
    return torch.stack(terms).sum(0)


def test_the_coefficients_are_those_of_the_paper_and_sum_to_one() -> None:
    assert coefficients(5, 2) == [12.5, -16.0, 4.5]
    assert coefficients(7, 1) == [7.0, -6.0]
    for count in (4, 9, 64):
        for order in (1, 2, 3):
            assert sum(coefficients(count, order)) == pytest.approx(1)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("scale", [0.1, 2.0, 30.0])
def test_the_jackknife_is_its_plain_formula(order: int, scale: float) -> None:
    log_w = torch.randn(6, 2, 3) * scale
    found = jackknife(log_w, order)
    torch.testing.assert_close(found.log_likelihood, plain(log_w, order))
    without = torch.stack(
        [torch.cat([log_w[:i], log_w[i + 1 :]]).logsumexp(0) - math.log(5) for i in range(6)]
    )
    pseudo = 6 * (log_w.logsumexp(0) - math.log(6)) - 5 * without
    torch.testing.assert_close(found.standard_error, pseudo.std(0) / math.sqrt(6))


@pytest.mark.parametrize(
    "samples", [6, *(pytest.param(each, marks=pytest.mark.slow) for each in (8, 12))]
)
def test_the_bias_falls_with_the_square_of_the_samples(samples: int) -> None:
    log_w = hand_case(samples, 400_000)
    plain_bias = log_likelihood(log_w).mean().item()
    assert plain_bias == pytest.approx(-VARIANCE / (2 * samples), rel=0.15)
    found = jackknife(log_w).log_likelihood
    error = found.std().item() / math.sqrt(400_000)
    # b / K^2 of the expansion becomes -b / (K (K - 1)); the next order adds less than a half
    expected = -(THIRD_MOMENT / 3 - 0.75 * VARIANCE**2) / (samples * (samples - 1))
    assert abs(found.mean().item() - expected) < 5 * error + expected / 2
    assert abs(found.mean().item()) + 3 * error < abs(plain_bias) / 4


def test_a_second_order_removes_more_of_the_bias() -> None:
    log_w = hand_case(4, 400_000)
    first = jackknife(log_w, 1).log_likelihood
    second = jackknife(log_w, 2).log_likelihood
    error = second.std().item() / math.sqrt(len(second))
    assert abs(second.mean()) + 3 * error < abs(first.mean())


def test_both_errors_are_the_spread_of_the_estimate() -> None:
    log_w = hand_case(200, 2000)
    spread = log_likelihood(log_w).std().item()  # 1.6% is its own error
    first_order = standard_error(log_w)
    found = jackknife(log_w)
    bootstrap = bootstrap_standard_error(log_w[:, :50])
    assert found.standard_error.mean().item() == pytest.approx(spread, rel=0.08)
    assert found.log_likelihood.std().item() == pytest.approx(spread, rel=0.08)
    # 1000 resamples have an error of 2.2%, five of them and the second-order term
    torch.testing.assert_close(bootstrap, first_order[:50], rtol=0.12, atol=0)


def test_the_bootstrap_is_its_plain_loop_and_repeats_with_its_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log_w = torch.randn(20, 2, 3) - 4000
    found = bootstrap_standard_error(log_w, 50, generator=torch.Generator().manual_seed(3))
    picks = torch.randint(20, (50, 20), generator=torch.Generator().manual_seed(3))
    values = torch.stack([log_w[rows].logsumexp(0) for rows in picks])
    torch.testing.assert_close(found, values.std(0))
    monkeypatch.setattr(resampling, "CHUNK", 7 * 20)
    chunks = bootstrap_standard_error(log_w, 50, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(chunks, found)


def test_replicates_take_the_place_of_weights() -> None:
    log_w = torch.randn(24, 3)
    means = replicate_means(log_w, 8)
    torch.testing.assert_close(jackknife(log_w, replicates=8), jackknife(means))
    found = bootstrap_standard_error(
        log_w, 100, replicates=8, generator=torch.Generator().manual_seed(1)
    )
    expected = bootstrap_standard_error(means, 100, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, expected)


def test_weights_that_are_zero_or_no_number_spoil_their_own_datum_alone() -> None:
    log_w = torch.randn(10, 4)
    log_w[:, 1] = -math.inf
    log_w[1:, 2] = -math.inf  # without the first nothing is left
    log_w[0, 3] = math.nan
    found = jackknife(log_w)
    assert found.log_likelihood[0].isfinite()
    assert found.log_likelihood[1] == -math.inf
    assert found.log_likelihood[2:].isnan().all()
    errors = [found.standard_error, bootstrap_standard_error(log_w)]
    for error in errors:
        assert error[0].isfinite()
        assert error[1:3].isinf().all()
        assert error[3].isnan()
    assert bootstrap_standard_error(torch.zeros(1, 2)).isinf().all()


def test_bad_arguments_are_named() -> None:
    for count, order in ((1, 1), (5, 0), (3, 3)):
        with pytest.raises(InputError, match=rf"got order={order}, K={count}; draw more samples"):
            jackknife(torch.zeros(count, 2), order)
    with pytest.raises(InputError, match=r"got resamples=1; 1000 is usual"):
        bootstrap_standard_error(torch.zeros(5, 2), 1)
