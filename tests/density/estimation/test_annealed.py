"""Annealed importance sampling and its sandwich, against models whose likelihood is known."""

import math
import sys

import pytest
import torch
from test_importance import LinearGaussian, OneDimensional, by_hand, wide
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from density import annealed, sandwich
from density.estimation.annealed import sandwich_of, sigmoid_path, simulate
from density.estimation.hmc import transition, tune_step_size
from univae.errors import InputError
from univae.latent.spherical import HypersphericalUniform


def test_the_hand_case_is_exact_to_a_hundredth() -> None:
    model = by_hand(0.0, 1.0)
    x = torch.full((1, 1), 1.2)
    result = annealed(model, x, 100, 1500)
    assert (result.log_likelihood - model.evidence(x)).abs() < 0.01 + 5 * result.standard_error
    assert result.standard_error < 0.012
    assert result.effective_chains > 1000


@pytest.mark.parametrize("start", ["prior", "posterior"])
@pytest.mark.parametrize("steps", [2, 5, 25])
def test_annealed_weights_are_unbiased(start: str, steps: int) -> None:
    model = by_hand(0.5, 0.5)
    x = torch.full((50, 1), 1.2)
    result = annealed(model, x, steps, 100, start=start)
    # 50 independent unbiased estimates of 1
    ratio = (result.log_likelihood - model.evidence(x)).exp()
    # 49 degrees of freedom: once in 130,000 seeds
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(50)


@pytest.mark.slow
def test_the_chains_need_few_steps_from_the_posterior_and_more_from_the_prior() -> None:
    model, x = wide(widen=1.5, shift=0.1)
    prior, posterior = (annealed(model, x, 20, 64, start=start) for start in ("prior", "posterior"))
    # measured: 55 and 12
    assert posterior.effective_chains.mean() > 2 * prior.effective_chains.mean()
    longer = annealed(model, x, 80, 64)
    assert longer.effective_chains.mean() > 1.5 * prior.effective_chains.mean()
    for result in (posterior, longer):
        assert ((result.log_likelihood - model.evidence(x)).abs() < 5 * result.standard_error).all()


def test_the_step_size_of_each_datum_finds_its_acceptance() -> None:
    model, x = wide()
    result = annealed(model, x, 60, 16)
    assert (result.acceptance > 0.55).all()
    assert (result.acceptance < 0.75).all()


def test_tuning_answers_to_each_datum_alone() -> None:
    size = tune_step_size(torch.ones(3), torch.tensor([[1.0, 0.65, 0.0], [1.0, 0.65, 0.2]]))
    torch.testing.assert_close(size.log(), 0.2 * torch.tensor([0.35, 0.0, -0.55]))


@pytest.mark.parametrize("size", [0.3, 0.8])
def test_a_transition_leaves_its_law_as_it_is(size: float) -> None:
    scale = torch.tensor([1.0, 0.5, 2.0]).sqrt() * 0.6
    law = Independent(Normal(torch.tensor([0.0, 1.0, -2.0]), scale), 1)
    z = law.sample(torch.Size((20_000, 2)))
    moved, probability = transition(law.log_prob, z, torch.full((2,), size))
    stayed = (moved == z).all(-1).double().mean(0)
    assert ((stayed - (1 - probability).mean(0)).abs() < 5 * 0.5 / math.sqrt(20_000)).all()
    assert 0.3 < probability.mean() < 0.995
    assert ((moved.mean(0) - law.mean).abs() < 5 * scale / math.sqrt(20_000)).all()
    spread = (moved - law.mean).square() / scale.square()
    assert ((spread.mean(0) - 1).abs() < 5 * math.sqrt(2 / 20_000)).all()


def test_a_transition_mixes_and_conserves_energy() -> None:
    law = Independent(Normal(torch.zeros(3, 2), 1.0), 2)
    z = torch.full((4000, 1, 3, 2), 2.0)
    # a quarter of a turn: all forgotten
    moved, probability = transition(law.log_prob, z, torch.tensor([math.pi / 20]))
    assert probability.mean() > 0.99
    assert ((moved.mean(0)).abs() < 5 / math.sqrt(4000) + 0.02).all()
    torch.testing.assert_close(moved.var(0), torch.ones(1, 3, 2), atol=0.13, rtol=0)


def test_a_transition_refuses_what_is_no_number() -> None:
    cliff = lambda z: torch.where(z > 0, math.nan, -z.square())  # noqa: E731
    z = torch.full((100, 2), -0.01)
    moved, probability = transition(cliff, z, torch.full((2,), 0.1))
    assert (moved <= 0).all()
    assert probability.isfinite().all()


def test_the_path_is_the_sigmoid_and_crowds_at_both_ends() -> None:
    betas = sigmoid_path(100)
    assert (betas[0], betas[-1], len(betas)) == (0, 1, 101)
    torch.testing.assert_close(betas + betas.flip(0), torch.ones(101, dtype=torch.float64))
    logit = ((betas * (2 * torch.tensor(4.0).sigmoid() - 1)) + torch.tensor(-4.0).sigmoid()).logit()
    torch.testing.assert_close(logit.diff(), torch.full((100,), 0.08, dtype=torch.float64))


@pytest.mark.parametrize("start", [pytest.param("prior", marks=pytest.mark.slow), "posterior"])
def test_the_sandwich_holds_the_likelihood(start: str) -> None:
    model, _ = wide(widen=1.5, shift=0.1)
    seen = Recorded(model.w, model.mu, widen=1.5, shift=0.1)
    result = sandwich(seen, 40, 25, 8, start=start)
    truth = model.evidence(seen.x)
    low = truth - result.lower
    high = result.upper - truth
    assert low.mean() > -5 * low.std() / math.sqrt(40)
    assert high.mean() > -5 * high.std() / math.sqrt(40)
    assert low.mean() < 1
    assert high.mean() < 1
    assert result.mean == pytest.approx(
        (result.lower.mean().item(), result.upper.mean().item(), result.gap.mean().item())
    )
    torch.testing.assert_close(result.gap, low + high)
    # simulated data: log p(x) has the mean minus the entropy of p(x), whatever the chains do
    marginal = MultivariateNormal(model.mu, model.w @ model.w.T + 0.25 * torch.eye(8))
    # log p(x) has the variance 8 / 2 = 4
    assert abs(truth.mean() + marginal.entropy()) < 5 * 2 / math.sqrt(40)


def test_the_sandwich_is_that_of_data_that_were_simulated_before() -> None:
    model, _ = wide()
    torch.manual_seed(3)
    whole = sandwich(model, 6, 5, 2)
    torch.manual_seed(3)
    simulated = simulate(model, 6)
    parts = sandwich_of(model, simulated, 5, 2)
    torch.testing.assert_close(parts, whole)
    assert simulated.x.shape == (6, 8)
    assert simulated.z.shape == (6, 3)
    # x - mu - W z is the noise of the likelihood
    noise = (simulated.x - model.mu - simulated.z @ model.w.T) / model.s
    assert abs(noise.square().mean() - 1) < 5 * math.sqrt(2 / noise.numel())


@pytest.mark.slow
def test_longer_paths_close_the_gap() -> None:
    model, _ = wide()
    gaps = [sandwich(model, 30, steps, 8).mean[2] for steps in (6, 30)]
    assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.parametrize("steps", [2, 10])
def test_the_reverse_weights_are_unbiased(steps: int) -> None:
    model = Recorded(torch.ones(1, 1), torch.zeros(1), s=1.0)
    result = sandwich(model, 4000, steps, 1)
    inverse = (model.evidence(model.x) - result.upper).exp()  # E[1 / w] p(x) = 1
    assert abs(inverse.mean() - 1) < 5 * inverse.std() / math.sqrt(4000)
    forward = (result.lower - model.evidence(model.x)).exp()
    assert abs(forward.mean() - 1) < 5 * forward.std() / math.sqrt(4000)


class Recorded(LinearGaussian):
    """Remembers the data that it simulated."""

    x: Tensor

    def likelihood(self, z: Tensor) -> Distribution:
        law = super().likelihood(z)

        def sample() -> Tensor:
            self.x = Independent.sample(law)
            return self.x

        law.sample = sample  # type: ignore[method-assign]
        return law


class Mute(LinearGaussian):
    def likelihood(self, z: Tensor) -> Distribution:
        return Silent(super().likelihood(z))


class Silent(Distribution):
    def __init__(self, law: Distribution) -> None:
        self.log_prob = law.log_prob
        super().__init__(law.batch_shape, law.event_shape, validate_args=False)


class OnSphere(OneDimensional):
    def prior(self) -> Distribution:
        return Independent(HypersphericalUniform(3, (2,)), 1)


class Nameless(Distribution):
    """A prior that names no support; it maps normal noise if it has ``from_noise``."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, law: Distribution) -> None:
        self.law = law
        self.log_prob = law.log_prob
        super().__init__(law.batch_shape, law.event_shape, validate_args=False)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.law.rsample(sample_shape)


class Mapped(Nameless):
    def rsample_with_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        return self.from_noise(torch.randn(*sample_shape, *self.event_shape))

    def from_noise(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        return eps, self.log_prob(eps)


def test_latents_must_be_free_to_move() -> None:
    model, x = wide()
    with pytest.raises(
        InputError, match=r"annealed: .* R\^d, .* got Independent; use estimate\(\), with Defensive"
    ):
        annealed(OnSphere(model.w, model.mu), x, 10, 2)
    prior = model.prior()
    model.prior = lambda: Nameless(prior)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"sandwich: .* got Nameless"):
        sandwich(model, 3, 10, 2)
    model.prior = lambda: Mapped(prior)  # type: ignore[method-assign]
    assert annealed(model, x, 2, 2).log_likelihood.shape == (5,)


def test_bad_arguments_are_named() -> None:
    model, x = wide()
    for steps, chains in ((1, 4), (4, 0)):
        with pytest.raises(
            InputError, match=rf"annealed: .* got steps={steps}, chains={chains}; .* use estimate"
        ):
            annealed(model, x, steps, chains)
    with pytest.raises(
        InputError,
        match=r"sandwich: .* needs sample\(\); Silent has none; implement it, or use annealed",
    ):
        sandwich(Mute(model.w, model.mu), 3, 4, 2)
    with (
        torch.inference_mode(),
        pytest.raises(InputError, match=r"annealed: .* got inference mode"),
    ):
        annealed(model, x, 4, 2)


def test_the_averaged_chains_do_not_touch_the_step_size(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["density.estimation.annealed"]
    seen = []

    def recorded(size: Tensor, probability: Tensor) -> Tensor:
        seen.append(probability.shape)
        return tune_step_size(size, probability)

    monkeypatch.setattr(module, "tune_step_size", recorded)
    model, x = wide()
    result = annealed(model, x, 4, 6)
    assert seen == [(4, 5)] * 3  # four pilots a datum
    assert result.effective_chains.max() <= 6
    alone = annealed(model, x, 4, 1)
    assert alone.standard_error.isinf().all()  # one weight, and not the pilots'
    torch.testing.assert_close(alone.effective_chains, torch.ones(5))
    averaged: list[Tensor] = []
    monkeypatch.setattr(module, "log_mean_weight", lambda w: (averaged.append(w), w.mean(0))[1])
    sandwich(model, 3, 4, 6)
    assert [w.shape for w in averaged] == [(6, 3), (6, 3)]  # forward without the pilots, and back


def test_float32_models_are_annealed_and_no_gradient_stays() -> None:
    model, x = wide()
    model.w, model.mu = model.w.float().requires_grad_(), model.mu.float()
    torch.set_default_dtype(torch.float32)
    result = annealed(model, x.float(), 10, 4)
    assert {value.dtype for value in result[:3]} == {torch.float64}
    assert not result.log_likelihood.requires_grad
    assert model.w.grad is None
