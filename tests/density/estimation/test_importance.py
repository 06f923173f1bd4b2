"""Importance sampling against models whose likelihood is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MultivariateNormal, Normal

import density
from density import (
    Estimate,
    LatentModel,
    Sobol,
    estimate,
    estimate_until,
    log_likelihood,
    log_weights,
)
from density.estimation.adaptive import _append
from density.estimation.collapse import mutual_information, shuffled_gap
from density.estimation.diagnostics import ladder, standard_error, unreliable
from density.estimation.importance import draw_log_weights, summarise
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from univae.errors import InputError


@dataclass
class LinearGaussian:
    r"""x = W z + mu + s eps; the proposal is the exact posterior, widened and shifted at will."""

    w: Tensor
    mu: Tensor
    s: float = 0.5
    widen: float = 1.0  # factor on the covariance of the proposal
    shift: float = 0.0
    encoded: int = 0  # data seen by the encoder
    decoded: list[int] = field(default_factory=list)  # draws a call of the decoder

    def prior(self) -> Distribution:
        zeros = torch.zeros(self.w.shape[1])
        return Independent(Normal(zeros, zeros + 1), 1)

    def posterior(self, x: Tensor) -> Distribution:
        self.encoded += len(x)
        covariance = self.s**2 * torch.linalg.inv(
            self.w.T @ self.w + self.s**2 * torch.eye(self.w.shape[1])
        )
        mean = (x - self.mu) @ self.w @ covariance / self.s**2 + self.shift
        return MultivariateNormal(mean, self.widen * covariance)

    def likelihood(self, z: Tensor) -> Distribution:
        self.decoded.append(z.shape[0])
        return Independent(Normal(z @ self.w.T + self.mu, self.s), 1)

    def evidence(self, x: Tensor) -> Tensor:
        covariance = self.w @ self.w.T + self.s**2 * torch.eye(len(self.mu))
        return MultivariateNormal(self.mu, covariance).log_prob(x)


def wide(**options: float) -> tuple[LinearGaussian, Tensor]:
    model = LinearGaussian(
        torch.from_numpy(np.random.default_rng(0).normal(size=(8, 3))), torch.randn(8), **options
    )
    return model, model.mu + torch.randn(5, 8)


@dataclass
class OneDimensional(LinearGaussian):
    """x = z + eps / 2 with a proposal of its own mean and variance."""

    mean: float = 0.96
    variance: float = 0.2

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(torch.full((len(x), 1), self.mean), math.sqrt(self.variance)), 1)


def by_hand(mean: float, variance: float) -> OneDimensional:
    return OneDimensional(torch.ones(1, 1), torch.zeros(1), mean=mean, variance=variance)


@pytest.mark.parametrize("samples", [1, 2, 16])
def test_the_exact_posterior_gives_the_exact_evidence(samples: int) -> None:
    model, x = wide()
    log_w = log_weights(model, x, samples)
    assert (log_w - model.evidence(x)).abs().max() < 1e-10
    result = estimate(model, x, samples)
    torch.testing.assert_close(result.log_likelihood, model.evidence(x))
    torch.testing.assert_close(result.elbo, model.evidence(x))
    torch.testing.assert_close(result.effective_samples, torch.full((5,), float(samples)))
    assert samples == 1 or (result.standard_error < 1e-12).all()


TAKES_DATA: dict[str, Callable[[Any, Tensor], Any]] = {
    "log_weights": lambda model, x: log_weights(model, x, 4),
    "estimate": lambda model, x: estimate(model, x, 4).log_likelihood,
    "estimate_until": lambda model, x: (
        density.estimate_until(model, x, 0.1, start=4, limit=8).estimate.log_likelihood
    ),
    "estimate_auto": lambda model, x: (
        density.estimate_auto(
            model, x, samples=32, fallback_steps=2, fallback_chains=2
        ).estimate.log_likelihood
    ),
    "widened": lambda model, x: estimate(model, x, 4, proposal=density.Widened()).log_likelihood,
    "elbo": lambda model, x: density.elbo(model, x, 4),
    "iwae": lambda model, x: density.iwae(model, x, 4),
    "multiply_iwae": lambda model, x: density.multiply_iwae(model, x, 2, 2),
    "ciwae": lambda model, x: density.ciwae(model, x, 4, 0.5),
    "stl": lambda model, x: density.stl(model, x, 4),
    "dreg": lambda model, x: density.dreg(model, x, 4),
    "likelihood_regret": lambda model, x: density.likelihood_regret(model, x, steps=2, draws=4),
    "annealed": lambda model, x: density.annealed(model, x, 2, 2).log_likelihood,
    "mutual_information": lambda model, x: torch.tensor(mutual_information(model, x)),
    "shuffled_gap": lambda model, x: torch.tensor(shuffled_gap(model, x)),
}


@pytest.mark.parametrize("name", list(TAKES_DATA))
def test_truth_values_are_zeros_and_ones(name: str, unchecked: None) -> None:
    model = MLPVAE(Pixels((1, 3, 3)), latents=(2,), hidden=((8,),)).eval()
    x = torch.rand(5, 1, 3, 3) > 0.5
    results = []
    for data in (x, x.long(), x.double()):
        torch.manual_seed(1)
        results.append(TAKES_DATA[name](model, data))
    torch.testing.assert_close(results[0], results[2], atol=0, rtol=0)
    torch.testing.assert_close(results[1], results[2], atol=0, rtol=0)


@pytest.mark.parametrize("name", list(TAKES_DATA))
def test_no_data_are_refused_in_one_line(name: str) -> None:
    model = MLPVAE(Pixels((1, 3, 3)), latents=(2,), hidden=((8,),)).eval()
    with pytest.raises(
        InputError, match=r"^\w+: needs at least one datum; got a tensor of shape \(0, 1, 3, 3\)"
    ):
        TAKES_DATA[name](model, torch.zeros(0, 1, 3, 3))


@pytest.mark.parametrize(
    ("mean", "variance", "elbo"),
    [(0.96, 0.2, -1.60651), (0.0, 1.0, -5.10579), (0.8, 0.5, -1.96236)],
)
def test_the_elbo_of_the_hand_case_is_the_analytic_one(
    mean: float, variance: float, elbo: float
) -> None:
    model = by_hand(mean, variance)
    x = torch.tensor([[1.2]])
    assert model.evidence(x).item() == pytest.approx(-1.60651, abs=5e-6)
    # E[log w] by quadrature: log w is quadratic in z
    nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    z = torch.from_numpy(mean + math.sqrt(variance) * nodes)[:, None, None]
    log_w = (
        model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - model.posterior(x).log_prob(z)
    )
    assert (log_w[:, 0].numpy() * weight).sum() / weight.sum() == pytest.approx(elbo, abs=6e-6)
    drawn = log_weights(model, x, 100_000)
    assert abs(drawn.mean() - elbo) < 5 * drawn.std() / math.sqrt(100_000) + 6e-6


@pytest.mark.parametrize(
    ("k", "expected"), [(2, -1.7175), (5, -1.6394), (10, -1.6221), (50, -1.6095)]
)
def test_the_bound_of_the_hand_case_rises_as_printed(k: int, expected: float) -> None:
    log_w = log_weights(by_hand(0.8, 0.5), torch.full((1, 1), 1.2), 400_000)
    rungs = log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)
    assert abs(rungs.mean() - expected) < 5 * (rungs.std() / math.sqrt(len(rungs))).item() + 5e-4


def test_the_bound_of_the_eight_dimensional_case_rises_as_printed() -> None:
    model, x = wide(widen=1.8, shift=0.15)
    log_w = log_weights(model, x, 30_000) - model.evidence(x)  # the gap does not depend on x
    printed = torch.tensor([-14.599, -13.827, -13.361, -13.233, -13.113, -13.087]) + 13.08577
    measured = ladder(log_w, [1, 2, 5, 10, 50, 500]).mean(1)
    torch.testing.assert_close(measured, printed, atol=0.02, rtol=0)
    assert (measured.diff() > 0).all()


@pytest.mark.parametrize("chunk", [None, 1, 3, 10, 64])
def test_any_chunk_size_draws_exactly_the_samples_asked_for(chunk: int | None) -> None:
    model, x = wide(widen=1.5)
    log_w = log_weights(model, x, 10, chunk=chunk)
    assert log_w.shape == (10, 5)
    assert log_w.dtype == torch.float64
    assert sum(model.decoded) == 10
    assert max(model.decoded) <= (chunk or 10)
    assert model.encoded == 5  # once
    assert len(log_w[:, 0].unique()) == 10


def test_unless_told_otherwise_a_few_thousand_draws_are_decoded_at_once() -> None:
    model, x = wide()
    log_weights(model, x, 2000)
    assert max(model.decoded) * len(x) <= 4096
    assert len(model.decoded) <= 3


def test_the_chunk_does_not_move_the_estimate() -> None:
    model, x = wide(widen=1.8)
    a = estimate(model, x, 20_000, chunk=7000)
    b = estimate(model, x, 20_000, chunk=20_000)
    spread = (a.standard_error.square() + b.standard_error.square()).sqrt()
    assert ((a.log_likelihood - b.log_likelihood).abs() < 5 * spread).all()
    assert ((a.log_likelihood - model.evidence(x)).abs() < 5 * a.standard_error).all()


def test_the_estimate_rarely_exceeds_the_evidence() -> None:
    model = by_hand(0.0, 1.0)
    x = torch.full((20_000, 1), 1.2)
    excess = log_likelihood(log_weights(model, x, 3)) - model.evidence(x)
    for b in (1.0, 2.0, 3.0):  # Markov
        assert (excess > b).double().mean() <= math.exp(-b)
    model = by_hand(0.4, 0.1)  # too narrow: heavy-tailed weights, for which the bound is a real one
    excess = log_likelihood(log_weights(model, x, 3)) - model.evidence(x)
    assert 0 < (excess > 1).double().mean() <= math.exp(-1)


def test_a_constant_added_to_the_likelihood_is_added_to_the_estimate() -> None:
    log_w = torch.randn(50, 4) * 3
    before = summarise(log_w)
    after = summarise(log_w + 1000)
    torch.testing.assert_close(before.elbo, log_w.mean(0))
    torch.testing.assert_close(after.log_likelihood, before.log_likelihood + 1000)
    torch.testing.assert_close(after.elbo, before.elbo + 1000)
    for name in ("standard_error", "effective_samples", "khat"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name))


def test_log_weights_carry_gradients_and_estimates_carry_none() -> None:
    model, x = wide(widen=1.5)
    model.w.requires_grad_()
    (grad,) = torch.autograd.grad(
        log_likelihood(log_weights(model, x, 4000, chunk=1500)).sum(), model.w
    )
    (exact,) = torch.autograd.grad(model.evidence(x).sum(), model.w)
    torch.testing.assert_close(grad, exact, atol=0.1 * exact.abs().max().item(), rtol=0)
    assert not any(value.requires_grad for value in estimate(model, x, 30))


class Climber(MultivariateNormal):
    """Counts how often it is asked to score."""

    scored = 0

    def rsample_with_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        z = self.rsample(sample_shape)
        return z, super().log_prob(z)

    def log_prob(self, value: Tensor) -> Tensor:
        Climber.scored += 1
        return super().log_prob(value)


def test_a_posterior_that_scores_while_it_draws_climbs_once() -> None:
    model, x = wide()
    q = model.posterior(x)
    climber = Climber(q.mean, q.covariance_matrix)
    assert (
        draw_log_weights(model, model.prior(), climber, x, 7) - model.evidence(x)
    ).abs().max() < 1e-10
    assert Climber.scored == 0


class Mixture:
    """A discrete latent: no gradient through the draw, the same estimate."""

    logits = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    means = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)

    def prior(self) -> Distribution:
        return Categorical(logits=self.logits)

    def posterior(self, x: Tensor) -> Distribution:
        return Categorical(logits=self.logits + Normal(self.means, 1.0).log_prob(x[:, None]))

    def likelihood(self, z: Tensor) -> Distribution:
        return Normal(self.means[z], 1.0)


def test_a_discrete_latent_is_summed_exactly_by_its_posterior() -> None:
    model = Mixture()
    x = torch.randn(6)
    exact = (model.logits + Normal(model.means, 1.0).log_prob(x[:, None])).logsumexp(-1)
    torch.testing.assert_close(estimate(model, x, 8).log_likelihood, exact)


def test_float32_models_are_weighed_in_float64() -> None:
    model, x = wide()
    model.w, model.mu = model.w.float(), model.mu.float()
    torch.set_default_dtype(torch.float32)
    result = estimate(model, x.float(), 30)
    assert {value.dtype for value in (*result, *summarise(torch.zeros(30, 2)))} == {torch.float64}
    torch.testing.assert_close(
        result.log_likelihood.float(), model.evidence(x.float()), atol=1e-3, rtol=0
    )


class Uneven(LinearGaussian):
    """The first datum has the exact posterior; every further one a wider proposal."""

    def posterior(self, x: Tensor) -> Distribution:
        q = super().posterior(x)
        # told by the datum itself, whatever batch it comes in
        widen = 1 + 2 * (x[:, 0] - self.mu[0])
        return MultivariateNormal(q.mean, q.covariance_matrix * widen[:, None, None])


def uneven() -> tuple[LinearGaussian, Tensor]:
    model, x = wide()
    x[:, 0] = model.mu[0] + torch.tensor([0.0, 0.25, 1.0, 4.0, 16.0])
    return Uneven(model.w, model.mu), x


def test_each_datum_gets_the_samples_that_it_needs() -> None:
    model, x = uneven()
    result = estimate_until(model, x, 0.05, start=32, limit=8192)
    assert result.samples[0] == 64
    assert (result.samples.diff() > 0)[:3].all()
    assert all(k in [64 * 2**i for i in range(6)] + [8192 - 2048] for k in result.samples.tolist())
    reliable = ~unreliable(result.estimate.khat, 64)
    assert result.reached[0]
    assert (result.reached == (result.estimate.standard_error <= 0.05) & reliable).all()
    error = (result.estimate.log_likelihood - model.evidence(x)).abs()
    assert (error < 5 * result.estimate.standard_error + 1e-9).all()


def test_a_datum_that_meets_the_limit_is_flagged_and_keeps_its_evidence() -> None:
    model, x = uneven()
    result = estimate_until(model, x, 0.01, start=30, limit=400)
    assert result.samples.tolist() == [60, 280, 280, 280, 280]  # 30, 60 and 120, not 240
    assert result.reached.tolist() == [True, False, False, False, False]
    assert (result.estimate.standard_error[1:] > 0.01).all()
    assert result.estimate.khat[1:].isfinite().all()


@pytest.mark.parametrize(
    ("variance", "bound"), [pytest.param(0.1, 0.005, marks=pytest.mark.slow), (0.4, 0.003)]
)
def test_stopping_leaves_the_estimated_likelihood_unbiased(variance: float, bound: float) -> None:
    x = torch.full((6000, 1), 1.2)
    model = by_hand(0.96, variance)  # the posterior has variance 0.2
    result = estimate_until(model, x, 0.05, start=64, limit=8192)
    log_ratio = result.estimate.log_likelihood - model.evidence(x)
    ratio = log_ratio.exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(x))
    # the logarithm alone has a bias of minus a half of the squared error
    assert abs(log_ratio.mean()) < bound
    assert (result.samples.unique() >= 128).all()


def test_the_draws_that_end_a_search_estimate_too_little() -> None:
    x = torch.full((6000, 1), 1.2)
    model = by_hand(0.96, 0.1)
    log_w = log_weights(model, x, 64)
    errors = []
    while log_w.shape[1]:
        ends = standard_error(log_w) <= 0.05
        if len(log_w) == 8192:
            ends = torch.ones_like(ends)
        errors.append(log_likelihood(log_w[:, ends]) - model.evidence(x[: int(ends.sum())]))
        log_w = log_w[:, ~ends]
        if log_w.shape[1]:
            log_w = torch.cat([log_w, log_weights(model, x[: log_w.shape[1]], len(log_w))])
    bias = torch.cat(errors)
    assert len(bias) == 6000
    # the number of the docstring
    assert abs(bias.mean() + 0.033) < 5 * bias.std() / math.sqrt(6000) + 0.0005


def test_the_search_goes_on_while_khat_is_unreliable() -> None:
    model = by_hand(0.96, 0.05)  # a quarter of the posterior's variance: k is 3/4
    x = torch.full((200, 1), 1.2)
    result = estimate_until(model, x, 100.0, start=128, limit=8192)
    assert (result.samples > 256).double().mean() > 0.3
    few = estimate_until(model, x, 100.0, start=8, limit=512)  # no k-hat below 21
    assert (few.samples >= 64).all()
    at_once = estimate_until(by_hand(0.96, 0.4), x, 100.0, start=128, limit=8192)
    assert (at_once.samples == 256).double().mean() > 0.99


def test_without_room_for_a_last_round_every_datum_has_all_draws() -> None:
    model, x = wide(widen=2.0)
    result = estimate_until(model, x, 1.0, start=30, limit=80)
    assert result.samples.tolist() == [80] * 5


@pytest.mark.parametrize(("start", "limit"), [(60, 1000), (64, 1024), (1, 16)])
def test_start_and_limit_need_not_be_multiples_of_the_replicates(start: int, limit: int) -> None:
    model, x = wide(widen=1.5)
    proposal = Sobol(replicates=7)
    result = estimate_until(model, x, 1e-9, start=start, limit=limit, proposal=proposal)
    rounded = limit // 7 * 7
    assert (result.samples % 7 == 0).all()
    assert (result.samples <= rounded).all()
    error = (result.estimate.log_likelihood - model.evidence(x)).abs()
    assert (error < 0.5).all()


class Numbered(LinearGaussian):
    """Weights 1, 2, 3, ... in the order of their draw."""

    def posterior(self, x: Tensor) -> Distribution:
        self.x = x
        return super().posterior(x)

    def likelihood(self, z: Tensor) -> Distribution:
        numbers = torch.arange(z.shape[0])[:, None] + 1.0 + sum(self.decoded)
        self.decoded.append(z.shape[0])
        q = super().posterior(self.x)
        return Constant(numbers.log() - self.prior().log_prob(z) + q.log_prob(z))


class Constant(Categorical):
    def __init__(self, values: Tensor) -> None:
        self.values = values

    def log_prob(self, value: Tensor) -> Tensor:
        return self.values


def test_the_estimate_is_that_of_the_draws_after_the_last_decision() -> None:
    model, x = wide()
    x = x[:1]
    result = estimate_until(Numbered(model.w, model.mu), x, 1e-9, start=4, limit=48)
    assert result.samples.item() == 32  # after decisions at 4, 8 and 16
    assert result.estimate.log_likelihood.exp().item() == pytest.approx(sum(range(17, 49)) / 32)
    result = estimate_until(
        Numbered(model.w, model.mu), x, 1e-9, start=4, limit=24, proposal=Sobol(replicates=2)
    )
    means = torch.tensor([sum(range(9, 17)), sum(range(17, 25))]) / 8  # of the two sets
    error = means.std() / math.sqrt(2) / means.mean()
    assert result.estimate.standard_error.item() == pytest.approx(error.item())


def test_a_decision_is_made_on_all_draws_before_it() -> None:
    numbers = [torch.arange(1.0, 5).log()[:, None], torch.arange(5.0, 9).log()[:, None]]
    together = _append(*numbers, 2)  # each of two sets joins its own
    assert together.exp().flatten().tolist() == pytest.approx([1, 2, 5, 6, 3, 4, 7, 8])


def test_the_adaptive_search_names_bad_arguments() -> None:
    model, x = wide()
    for start, limit, error in ((0, 8, 0.1), (9, 8, 0.1), (4, 8, 0.0)):
        with pytest.raises(
            InputError, match=rf"estimate_until: .* got start={start}, limit={limit}, .*={error}"
        ):
            estimate_until(model, x, error, start=start, limit=limit)
    with pytest.raises(InputError, match=r"multiples of the proposal's .* limit=15, replicates=16"):
        estimate_until(model, x, 0.1, start=4, limit=15, proposal=Sobol(replicates=16))


class Unsummed(LinearGaussian):
    def likelihood(self, z: Tensor) -> Distribution:
        return Normal(z @ self.w.T + self.mu, self.s)


def test_bad_arguments_are_named() -> None:
    model, x = wide()
    with pytest.raises(InputError, match=r"at least 1; got samples=0, chunk=None"):
        log_weights(model, x, 0)
    with pytest.raises(InputError, match=r"got samples=3, chunk=0"):
        log_weights(model, x, 3, chunk=0)
    with pytest.raises(
        InputError, match=r"likelihood must give .* shape \(3, 5\); got \(3, 5, 8\); sum the others"
    ):
        log_weights(Unsummed(model.w, model.mu), x, 3)


def test_the_package_names_what_it_promises() -> None:
    bounds = {"annealed", "estimate", "estimate_auto", "estimate_until", "log_likelihood"}
    bounds |= {"log_weights", "sandwich", "score"}
    answers = {
        "Adaptive",
        "Annealed",
        "AutoEstimate",
        "Estimate",
        "Jackknife",
        "Sandwich",
        "Scores",
    }
    resampled = {"bootstrap_standard_error", "jackknife"}
    proposals = {"Auto", "Defensive", "Newton", "Posterior", "Proposal", "Refined", "Sobol"}
    proposals |= {"StudentT", "Widened"}
    objectives = {"ciwae", "dreg", "elbo", "iwae", "miwae", "multiply_iwae", "stl"}
    others = {
        "DensityEstimator",
        "LatentModel",
        "compress",
        "decompress",
        "from_pyro",
        "likelihood_regret",
    }
    assert set(density.__all__) == others | bounds | answers | resampled | proposals | objectives
    assert isinstance(wide()[0], LatentModel)
    assert not isinstance(object(), LatentModel)
    assert Estimate._fields == (
        "log_likelihood",
        "elbo",
        "standard_error",
        "effective_samples",
        "khat",
    )
