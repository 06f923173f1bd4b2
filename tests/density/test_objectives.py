"""Training objectives: their values, and that their gradients are the estimators of that name."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from density import ciwae, dreg, elbo, iwae, miwae, multiply_iwae, stl
from univae.errors import InputError
from univae.latent.sampling import detached
from univae.latent.spherical import HypersphericalUniform, VonMisesFisher

S = 0.5  # the deviation of x given z


class PerDatum:
    r"""x = w z + s eps with parameters per datum: one backward pass, B independent gradients."""

    def __init__(
        self, data: int, mean: float = 0.8, spread: float = 0.7, shape: tuple[int, ...] = (1,)
    ) -> None:
        self.mean = torch.full((data, *shape), mean, requires_grad=True)
        self.log_spread = torch.full((data, *shape), math.log(spread), requires_grad=True)
        self.w = torch.ones(data, *shape, requires_grad=True)
        self.x = torch.full((data, *shape), 1.2)
        self.dims = len(shape)

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(self.x.shape[1:]), 1.0), self.dims)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(self.mean, self.log_spread.exp()), self.dims)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z * self.w, S), self.dims)

    def gradients(
        self, objective: Callable[..., Tensor], *counts: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Per datum, with respect to mean, log-spread and w."""
        torch.manual_seed(1)
        bound = objective(self, self.x, *counts)
        return torch.autograd.grad(bound.sum(), (self.mean, self.log_spread, self.w))


def agrees(gradient: Tensor, expected: Tensor | float) -> bool:
    """Within five standard errors: a false alarm once in 1.7 million seeds."""
    return bool(
        (gradient.mean() - expected).abs() < 5 * gradient.std() / math.sqrt(len(gradient)) + 1e-12
    )


@pytest.mark.parametrize("objective", [elbo, stl, iwae, dreg])
def test_with_one_sample_every_gradient_is_that_of_the_analytic_elbo(
    objective: Callable[..., Tensor],
) -> None:
    m = 0.8
    v = 0.49
    x = 1.2
    gradients = PerDatum(100_000).gradients(objective, 1)
    assert agrees(gradients[0], (x - m) / S**2 - m)
    assert agrees(gradients[1], 1 - v * (1 + 1 / S**2))
    assert agrees(gradients[2], ((x - m) * m - v) / S**2)


@pytest.mark.parametrize("samples", [2, 8])
def test_the_doubly_reparametrised_gradient_is_that_of_the_bound(samples: int) -> None:
    model = PerDatum(100_000)
    ours = model.gradients(dreg, samples)
    theirs = model.gradients(iwae, samples)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert agrees(a - b, 0.0)
        assert (a - b).abs().mean() > 0.01  # yet another estimator
        assert not agrees(a, 0.0)
    torch.testing.assert_close(ours[2], theirs[2])  # the decoder's is the same, draw by draw


def test_the_doubly_reparametrised_gradient_is_its_plain_formula() -> None:
    model = PerDatum(3, shape=(2, 4))
    samples = 5
    ours = model.gradients(dreg, samples)
    torch.manual_seed(1)
    q = model.posterior(model.x)
    frozen = model.mean.detach()
    z = q.rsample(torch.Size((samples,))).detach().requires_grad_()
    fixed = Independent(Normal(frozen, model.log_spread.detach().exp()), 2)
    log_w = model.prior().log_prob(z) + model.likelihood(z).log_prob(model.x) - fixed.log_prob(z)
    (slope,) = torch.autograd.grad(log_w.sum(), z)
    square = log_w.detach().softmax(0).square()[..., None, None]
    torch.testing.assert_close(ours[0], (square * slope).sum(0))
    torch.testing.assert_close(ours[1], (square * slope * (z - frozen)).sum(0))


@pytest.mark.parametrize(("objective", "samples"), [(stl, 1), (stl, 6), (dreg, 1), (dreg, 6)])
def test_at_the_exact_posterior_the_encoder_gradient_has_no_variance(
    objective: Callable, samples: int
) -> None:
    model = PerDatum(50, mean=0.96, spread=math.sqrt(0.2))
    for gradient in model.gradients(objective, samples)[:2]:
        assert gradient.abs().max() < 1e-12
    noisy = model.gradients(elbo if objective is stl else iwae, samples)
    assert min(g.std() for g in noisy[:2]) > 0.1


def test_with_one_sample_the_doubly_reparametrised_gradient_sticks_the_landing() -> None:
    model = PerDatum(20)
    for a, b in zip(model.gradients(dreg, 1), model.gradients(stl, 1), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_samples_drown_the_signal_of_one_encoder_gradient_and_lift_that_of_the_other() -> None:
    def signal(objective: Callable[..., Tensor], samples: int) -> float:
        gradient = PerDatum(40_000).gradients(objective, samples)[0]
        return (gradient.mean().abs() / gradient.std()).item()

    exponent = {f: math.log(signal(f, 64) / signal(f, 4)) / math.log(16) for f in (dreg, iwae)}
    assert exponent[dreg] == pytest.approx(0.5, abs=0.1)
    assert exponent[iwae] == pytest.approx(-0.5, abs=0.2)


def value(objective: Callable[..., Tensor], *counts: float) -> Tensor:
    torch.manual_seed(1)
    model = PerDatum(7)
    return objective(model, model.x, *counts).detach()


def test_values_are_the_bounds_whatever_the_gradients() -> None:
    torch.manual_seed(1)
    model = PerDatum(7)
    q = model.posterior(model.x)
    z = q.rsample(torch.Size((12,)))
    log_w = (
        model.prior().log_prob(z) + model.likelihood(z).log_prob(model.x) - q.log_prob(z)
    ).detach()
    mean = log_w.mean(0)
    bound = log_w.logsumexp(0) - math.log(12)
    torch.testing.assert_close(value(elbo, 12), mean)
    torch.testing.assert_close(value(stl, 12), mean)
    torch.testing.assert_close(value(iwae, 12), bound)
    torch.testing.assert_close(value(dreg, 12), bound)
    torch.testing.assert_close(value(ciwae, 12, 0.25), 0.25 * mean + 0.75 * bound)
    groups = torch.stack([part.logsumexp(0) - math.log(4) for part in log_w.split(4)])
    torch.testing.assert_close(value(multiply_iwae, 3, 4), groups.mean(0))


def test_the_mixed_objectives_end_in_the_pure_ones() -> None:
    torch.testing.assert_close(value(multiply_iwae, 1, 6), value(iwae, 6))
    torch.testing.assert_close(value(multiply_iwae, 6, 1), value(elbo, 6))
    assert miwae is multiply_iwae
    torch.testing.assert_close(value(ciwae, 6, 0.0), value(iwae, 6))
    torch.testing.assert_close(value(ciwae, 6, 1.0), value(elbo, 6))


@pytest.mark.parametrize(("mixed", "counts"), [(multiply_iwae, (4, 8)), (ciwae, (8, 0.5))])
def test_mixed_gradients_are_those_of_their_values(
    mixed: Callable[..., Tensor], counts: tuple[float, ...]
) -> None:
    model = PerDatum(50_000)
    encoder = model.gradients(mixed, *counts)[0]
    pure = model.gradients(iwae, 8)[0], model.gradients(elbo, 8)[0]
    expected = pure[0].mean() if mixed is multiply_iwae else (pure[0].mean() + pure[1].mean()) / 2
    error = 5 * (encoder.std() + pure[0].std() + pure[1].std()) / math.sqrt(50_000)
    assert (encoder.mean() - expected).abs() < error


def test_a_frozen_encoder_leaves_the_decoder_its_gradient() -> None:
    model = PerDatum(5)
    expected = model.gradients(iwae, 4)[2]
    model.mean, model.log_spread = model.mean.detach(), model.log_spread.detach()
    torch.manual_seed(1)
    (gradient,) = torch.autograd.grad(dreg(model, model.x, 4).sum(), model.w)
    torch.testing.assert_close(gradient, expected)


class Own(Normal):
    """A posterior with its own way to leave the graph."""

    def detached(self) -> Distribution:
        return Normal(self.loc.detach() + 7, self.scale.detach())


def test_a_detached_law_is_the_same_function_of_z_alone() -> None:
    loc = torch.randn(3, 2, requires_grad=True)
    tril = torch.tensor([[1.5, 0.0], [0.4, 0.6]], requires_grad=True)
    laws = [Independent(Normal(loc, tril.diagonal()), 1), MultivariateNormal(loc, scale_tril=tril)]
    z = torch.randn(4, 3, 2, requires_grad=True)
    for law in laws:
        score = detached(law).log_prob(z)
        torch.testing.assert_close(score, law.log_prob(z))
        assert torch.autograd.grad(
            score.sum(), (loc, tril), allow_unused=True, retain_graph=True
        ) == (None, None)
        assert torch.autograd.grad(score.sum(), z)[0].abs().min() > 0
    assert (detached(Own(loc, 1.0)).mean == loc + 7).all()


class Sphere(PerDatum):
    def prior(self) -> Distribution:
        return HypersphericalUniform(3)

    def posterior(self, x: Tensor) -> Distribution:
        return VonMisesFisher(torch.nn.functional.normalize(self.mean, dim=-1), 5.0)


def test_bad_arguments_are_named() -> None:
    model = Sphere(2, shape=(3,))
    for objective in (stl, dreg):
        with pytest.raises(InputError, match=r"got VonMisesFisher; use the objective iwae or elbo"):
            objective(model, model.x, 4)
    assert iwae(model, model.x, 4).shape == (2,)
    for objective in (elbo, stl, iwae, dreg):
        with pytest.raises(
            InputError, match=r"objectives: samples must be at least 1; got samples=0"
        ):
            objective(model, model.x, 0)
    with pytest.raises(InputError, match=r"multiply_iwae: groups must be at least 1; got groups=0"):
        multiply_iwae(model, model.x, 0, 4)
    with pytest.raises(InputError, match=r"ciwae: beta must lie in \[0, 1\]; got beta=1.5"):
        ciwae(model, model.x, 4, 1.5)
