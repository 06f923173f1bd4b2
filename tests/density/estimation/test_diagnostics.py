"""The signs by which importance weights are trusted."""

import math

import pytest
import torch
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, Uniform

from density.estimation.diagnostics import (
    effective_samples,
    group_sizes,
    khat_is_defined,
    khat_threshold,
    ladder,
    pareto_khat,
    replicate_means,
    standard_error,
    unreliable,
)
from density.estimation.importance import estimate
from density.estimation.pareto_fit import fit_pareto
from univae.errors import InputError


def gaussian_weights(proposal_variance: float, samples: int, data: int) -> Tensor:
    z = torch.randn(samples, data) * math.sqrt(proposal_variance)
    return Normal(0.0, 1.0).log_prob(z) - Normal(0.0, math.sqrt(proposal_variance)).log_prob(z)


def pareto(shape: float, *size: int) -> Tensor:
    u = torch.rand(size)
    return -u.log() if shape == 0 else (u**-shape - 1) / shape


def tail_of(log_w: Tensor) -> Tensor:
    """The exceedances of one datum, the plain way."""
    tail = math.ceil(min(0.2 * len(log_w), 3 * math.sqrt(len(log_w))))
    w = (log_w - log_w.max()).exp().sort().values
    return w[-tail:] - w[-tail - 1]


@pytest.mark.parametrize("samples", [25, 100, 1000, 5000])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 10.0])
def test_khat_is_that_of_the_plain_fit(samples: int, scale: float) -> None:
    log_w = torch.randn(samples, 2, 3) * scale
    khat = pareto_khat(log_w)
    assert khat.shape == (2, 3)
    for i, j in ((0, 0), (1, 2)):
        assert khat[i, j].item() == pytest.approx(
            fit_generalized_pareto(tail_of(log_w[:, i, j]))[0], abs=1e-9
        )


@pytest.mark.parametrize("shape", [-0.4, 0.0, 0.3, 0.7, 1.2])
def test_the_fit_finds_the_index_of_exact_pareto_samples(shape: float) -> None:
    fitted = fit_pareto((pareto(shape, 200, 1000) * 17).sort().values.log())
    expected = (1000 * shape + 5) / 1010  # with its ten points of prior at 1/2
    error = fitted.std() / math.sqrt(200)
    # the estimator's own bias is below 0.005
    assert abs(fitted.mean() - expected) < 5 * error + 0.005
    assert fitted.std().item() == pytest.approx((1 + shape) / math.sqrt(1000), rel=0.35)


def test_khat_orders_proposals_by_their_width() -> None:  # theory: k = 1 - r for r < 1
    khat = [pareto_khat(gaussian_weights(r, 4000, 50)).mean().item() for r in (0.2, 0.4, 0.8, 1.2)]
    assert khat == sorted(khat, reverse=True)
    assert khat[0] > 0.65
    assert 0.35 < khat[1] < 0.7
    assert khat[3] < 0.1


def test_khat_survives_weights_that_underflow() -> None:
    spread = torch.randn(500, 4) * 400  # the second largest weight is e^-100 of the first
    assert (pareto_khat(spread) > 5).all()
    torch.testing.assert_close(pareto_khat(spread), pareto_khat(spread - 1e5), atol=1e-6, rtol=0)


def test_khat_is_infinite_where_it_cannot_be_judged_and_zero_where_weights_are_equal() -> None:
    assert pareto_khat(torch.randn(20, 3)).isinf().all()
    assert pareto_khat(torch.randn(21, 3)).isfinite().all()
    assert (pareto_khat(torch.full((200, 3), -7.0)) == 0).all()
    few_exceed = torch.zeros(200, 2)  # ties at the threshold, some weights of zero
    few_exceed[:100] = -math.inf
    few_exceed[-3:, 0] = torch.tensor([1.0, 2.0, 3.0])  # 21% of the sum lies above the threshold
    few_exceed[-3:, 1] = torch.tensor([1e-6, 2e-6, 3e-6])  # rounding errors of a decoder
    assert pareto_khat(few_exceed).tolist() == [math.inf, 0.0]


@pytest.mark.parametrize(("positive", "zeros"), [(21, 79), (50, 950), (200, 50), (900, 4100)])
def test_weights_of_zero_do_not_change_khat(positive: int, zeros: int) -> None:
    log_w = torch.randn(positive, 4) * 2
    padded = torch.cat([log_w, torch.full((zeros, 4), -math.inf)])
    assert torch.equal(pareto_khat(padded), pareto_khat(log_w))
    equal = torch.zeros(positive + zeros)
    equal[positive:] = -math.inf
    assert pareto_khat(equal) == 0


@pytest.mark.parametrize("positive", [1, 4, 5, 10, 20])
def test_khat_is_infinite_where_fewer_than_five_of_the_tail_are_above_zero(positive: int) -> None:
    for weights in (torch.zeros(positive, 50), torch.rand(positive, 50).pow(-1.2).log()):
        log_w = torch.full((1000, 50), -math.inf)
        log_w[:positive] = weights
        assert pareto_khat(log_w).isinf().all()


def test_a_heavy_tail_among_zeros_is_found() -> None:  # index 1.2, 94 of 1000 weights above zero
    log_w = torch.full((1000, 500), -math.inf)
    log_w[:94] = pareto(1.2, 94, 500).log()
    khat = pareto_khat(log_w)
    # 19 points of tail and ten of prior at 1/2
    expected = (19 * 1.2 + 5) / 29
    assert abs(khat.mean() - expected) < 0.1
    assert unreliable(khat).double().mean() > 0.7


def test_exceedances_of_zero_are_left_out_of_the_fit() -> None:
    excess = (pareto(0.6, 4, 60)).sort().values.log()
    padded = torch.cat([torch.full((4, 40), -math.inf), excess], -1)
    # 40 points of the profile in place of 37
    torch.testing.assert_close(fit_pareto(padded), fit_pareto(excess), atol=0.01, rtol=0)
    assert fit_pareto(torch.full((2, 30), -math.inf)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("size", [21, 200, 1000])
def test_khat_is_infinite_where_no_weight_or_one_weight_holds_everything(size: int) -> None:
    log_w = torch.full((size, 4), -math.inf)
    log_w[0, 1] = 0.0
    log_w[:, 2] = -1e5  # one among equal ones that underflow
    log_w[0, 2] = 0.0
    log_w[:4, 3] = -7.0  # four
    khat = pareto_khat(log_w)
    assert khat.isinf().all()
    assert unreliable(khat).all()
    torch.testing.assert_close(effective_samples(log_w), torch.tensor([0.0, 1.0, 1.0, 4.0]))


@pytest.mark.parametrize("size", [5, 20, 21, 1000])
def test_a_weight_that_is_no_number_makes_its_own_datum_unreliable_and_no_other(size: int) -> None:
    log_w = torch.randn(size, 3) / 10
    others = pareto_khat(log_w)
    log_w[0, 1] = math.nan
    log_w[1, 2] = math.inf
    khat = pareto_khat(log_w)
    assert khat[0] == others[0]
    assert khat[1] == math.inf
    assert khat[2] == math.inf
    assert unreliable(khat)[1:].all()
    assert unreliable(khat, size)[1:].all()
    assert effective_samples(log_w)[1:].isnan().all()
    assert standard_error(log_w)[1:].isnan().all()


def test_a_tail_of_five_takes_21_samples() -> None:
    assert [khat_is_defined(samples) for samples in (1, 20, 21, 10**6)] == [False] * 2 + [True] * 2
    for samples in (20, 21):
        is_infinite = pareto_khat(torch.randn(samples)).isinf()
        assert bool(is_infinite) is not khat_is_defined(samples)


def test_the_threshold_is_the_one_that_the_number_of_draws_can_bear() -> None:
    assert khat_threshold(100) == pytest.approx(0.5)
    assert khat_threshold(10) == pytest.approx(0.0)
    assert khat_threshold(2154) < 0.7
    assert khat_threshold(2155) == 0.7
    assert khat_threshold(10**9) == 0.7
    assert khat_threshold(1) == -math.inf
    khat = torch.tensor([0.4, 0.6, 0.8, math.inf, math.nan, -math.inf])
    assert unreliable(khat).tolist() == [False, False, True, True, True, False]
    assert unreliable(khat, 100).tolist() == [False, True, True, True, True, False]
    with pytest.raises(InputError, match="samples must be at least 1; got samples=0"):
        khat_threshold(0)


def test_the_fit_survives_a_profile_point_at_the_exponential_law() -> None:
    a = ((36 / (torch.arange(20, 37) - 0.5)).sqrt() - 1) / 3  # of the 36 points for a tail of 40
    steps = torch.linspace(0, 1, 40) * -a.log()[:, None]
    # b = a - 1 / x_M = 0 up to rounding
    tails = torch.cat([steps[:, :-1] - steps[:, 9:10], -a.log()[:, None]], -1)
    fitted = fit_pareto(tails)
    assert fitted.isfinite().all()
    torch.testing.assert_close(fitted, fit_pareto(tails * 1.000001), atol=1e-4, rtol=0)


class Within:
    """z ~ N(0, 1), x uniform within 1/4 of z, and a normal proposal around x."""

    def __init__(self, spread: float) -> None:
        self.spread = spread

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(x, self.spread), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Uniform(z - 0.25, z + 0.25, validate_args=False), 1, validate_args=False)

    def evidence(self, x: Tensor) -> Tensor:
        interval = torch.special.ndtr(x + 0.25) - torch.special.ndtr(x - 0.25)
        return (interval / 0.5).log().squeeze(-1)


def test_bounded_weights_with_many_zeros_are_reliable_and_few_above_zero_are_not() -> None:
    x = torch.randn(300, 1)
    model = Within(1.5)  # 13% of the weights are above zero
    result = estimate(model, x, 2000)
    assert unreliable(result.khat, 2000).double().mean() < 0.02
    error = (result.log_likelihood - model.evidence(x)) / result.standard_error
    assert (error.abs() < 5).all()
    assert abs((error.abs() < 2).double().mean() - 0.954) < 5 * math.sqrt(0.954 * 0.046 / 300)
    assert result.elbo.isinf().all()
    few = estimate(Within(60.0), x, 2000)  # 7 weights above zero
    assert few.log_likelihood.isfinite().double().mean() > 0.95
    assert unreliable(few.khat, 2000).all()


def test_effective_samples_count_equal_weights() -> None:
    log_w = torch.full((10, 3), -math.inf)
    log_w[:4, 0] = 700.0
    log_w[0, 1] = -900.0
    torch.testing.assert_close(effective_samples(log_w), torch.tensor([4.0, 1.0, 0.0]))
    assert effective_samples(torch.tensor([[0.0], [math.log(3)]])).item() == pytest.approx(16 / 10)


def test_the_standard_error_is_the_spread_of_the_estimate() -> None:
    log_w = gaussian_weights(2.0, 2000, 1000)
    estimates = log_w.logsumexp(0) - math.log(2000)
    # 2.2 % each sd
    assert standard_error(log_w).mean().item() == pytest.approx(estimates.std().item(), rel=0.12)
    assert standard_error(torch.tensor([[0.0], [math.log(3)]])).item() == pytest.approx(0.5)
    assert standard_error(torch.zeros(1, 2)).isinf().all()
    assert standard_error(torch.full((5, 2), -math.inf)).isinf().all()
    assert (standard_error(torch.full((5, 2), -1e4)) == 0).all()


def test_the_mean_weight_of_a_replicate_is_a_weight() -> None:
    log_w = torch.randn(12, 4) * 3
    means = replicate_means(log_w, 3)
    torch.testing.assert_close(means[1].exp(), log_w[4:8].exp().mean(0))
    torch.testing.assert_close(means.logsumexp(0) - math.log(3), log_w.logsumexp(0) - math.log(12))
    uneven = replicate_means(log_w, 5)  # of 3, 3, 2, 2 and 2 weights
    torch.testing.assert_close(uneven[1].exp(), log_w[3:6].exp().mean(0))
    torch.testing.assert_close(uneven[4].exp(), log_w[10:].exp().mean(0))
    torch.testing.assert_close(replicate_means(log_w, 16), log_w)
    with pytest.raises(InputError, match=r"at least 1; got replicates=0; 1 is a single"):
        replicate_means(log_w, 0)


@pytest.mark.parametrize(("samples", "replicates"), [(12, 5), (5, 16), (128, 16), (1, 1), (99, 7)])
def test_groups_hold_all_samples_and_differ_by_one_at_most(samples: int, replicates: int) -> None:
    sizes = group_sizes(samples, replicates)
    assert sum(sizes) == samples
    assert len(sizes) == min(samples, replicates)
    assert max(sizes) - min(sizes) == (samples % len(sizes) > 0)


def test_nested_rungs_never_descend() -> None:
    log_w = torch.randn(64, 20) * 4
    rungs = ladder(log_w, [1, 2, 4, 8, 16, 32, 64])
    assert (rungs.diff(dim=0) >= 0).all()
    torch.testing.assert_close(rungs[0], log_w.mean(0))
    torch.testing.assert_close(rungs[-1], log_w.logsumexp(0) - math.log(64))
    halves = torch.stack([log_w[:25].logsumexp(0), log_w[25:50].logsumexp(0)]).mean(0) - math.log(
        25
    )
    torch.testing.assert_close(ladder(log_w, [25])[0], halves)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"between 1 and K=4; got \[2, 5\]; draw more"):
        ladder(torch.zeros(4, 1), [2, 5])
