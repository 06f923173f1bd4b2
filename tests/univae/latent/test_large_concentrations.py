"""Von Mises-Fisher at concentrations up to 1e12, against 60 digits; whole-number arguments."""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from univae.latent.bessel import log_normaliser, mean_length
from univae.latent.bessel_asymptotics import is_asymptotic
from univae.latent.spherical import HypersphericalUniform, VonMisesFisher

mpmath.mp.dps = 60

DIMS = [2, 3, 16, 64, 512]
LARGE = [1e5, 1e6, 1e8, 1e9, 1e10, 1e12]

Exact = mpmath.mpf

large = pytest.mark.parametrize("kappa", LARGE)
every_dim = pytest.mark.parametrize("dim", DIMS)


def exact_length(kappa: float, dim: int) -> Exact:
    order = Exact(dim) / 2
    return mpmath.besseli(order, Exact(kappa)) / mpmath.besseli(order - 1, Exact(kappa))


def exact_log_normaliser(kappa: float, dim: int) -> Exact:
    order = Exact(dim) / 2 - 1
    bessel = mpmath.log(mpmath.besseli(order, Exact(kappa)))
    return order * mpmath.log(kappa) - (order + 1) * mpmath.log(2 * mpmath.pi) - bessel


def exact_derivatives(kappa: float, dim: int) -> list[Exact]:
    """A, A' and A'' by A' = 1 - A^2 - (d - 1) A / kappa."""
    k = Exact(kappa)
    length = exact_length(kappa, dim)
    first = 1 - length**2 - (dim - 1) / k * length
    second = -2 * length * first - (dim - 1) / k * first + (dim - 1) / k**2 * length
    return [length, first, second]


def derivatives(f: Callable[[Tensor], Tensor], kappa: float, count: int) -> list[float]:
    k = torch.tensor(kappa, requires_grad=True)
    values = [f(k)]
    for _ in range(count):
        values.append(torch.autograd.grad(values[-1], k, create_graph=True)[0])
    return [value.item() for value in values]


@every_dim
@large
def test_the_mean_length_and_two_derivatives_have_all_digits(dim: int, kappa: float) -> None:
    ours = derivatives(lambda k: mean_length(k, dim), kappa, 2)
    truth = [float(value) for value in exact_derivatives(kappa, dim)]
    assert ours == pytest.approx(truth, rel=1e-14, abs=0)


@every_dim
@large
def test_the_normaliser_has_minus_the_mean_length_as_derivative(dim: int, kappa: float) -> None:
    ours = derivatives(lambda k: log_normaliser(k, dim), kappa, 3)
    length, first, second = exact_derivatives(kappa, dim)
    truth = [exact_log_normaliser(kappa, dim), -length, -first, -second]
    assert ours == pytest.approx([float(value) for value in truth], rel=1e-14, abs=0)


@every_dim
@large
def test_the_divergence_from_uniform_and_its_derivative_have_all_digits(
    dim: int, kappa: float
) -> None:
    m = torch.eye(dim)[0]
    uniform = HypersphericalUniform(dim)
    ours = derivatives(lambda k: kl_divergence(VonMisesFisher(m, k), uniform), kappa, 1)
    length, first, _ = exact_derivatives(kappa, dim)
    log_uniform = mpmath.loggamma(Exact(dim) / 2) - mpmath.log(2) - dim * mpmath.log(mpmath.pi) / 2
    truth = kappa * length + exact_log_normaliser(kappa, dim) - log_uniform
    assert ours == pytest.approx([float(truth), float(kappa * first)], rel=1e-13, abs=0)


@pytest.mark.parametrize("dim", [2, 16])
@large
def test_the_divergence_between_two_large_concentrations_has_all_digits(
    dim: int, kappa: float
) -> None:
    m = torch.eye(dim)[0]
    p = VonMisesFisher(m, torch.tensor(kappa))
    q = VonMisesFisher(m, torch.tensor(1.5 * kappa))
    change = exact_log_normaliser(kappa, dim) - exact_log_normaliser(1.5 * kappa, dim)
    truth = change - exact_length(kappa, dim) * Exact(kappa) / 2
    assert kl_divergence(p, q).item() == pytest.approx(float(truth), rel=1e-12)


@every_dim
def test_series_and_bessel_functions_meet(dim: int) -> None:
    """Beside the first concentration of the series, at which they are the least exact."""
    first = max(100.0, 10.0 * dim)
    assert is_asymptotic(torch.tensor(first), dim)
    assert not is_asymptotic(torch.tensor(0.999 * first), dim)
    for kappa in (0.999 * first, first):
        length, slope, _ = exact_derivatives(kappa, dim)
        ours = derivatives(lambda k: mean_length(k, dim), kappa, 1)
        assert ours[0] == pytest.approx(float(length), rel=1e-13)
        assert ours[1] == pytest.approx(float(slope), rel=1e-8)
        normaliser = log_normaliser(torch.tensor(kappa), dim).item()
        assert normaliser == pytest.approx(float(exact_log_normaliser(kappa, dim)), rel=1e-13)
    at_first = derivatives(lambda k: mean_length(k, dim), first, 2)
    truth = [float(value) for value in exact_derivatives(first, dim)]
    assert at_first == pytest.approx(truth, rel=1e-14, abs=0)


@pytest.mark.parametrize("kappa", [1e-6, 1e-3, 1.0])
def test_the_divergence_keeps_its_digits_near_the_uniform_distribution(kappa: float) -> None:
    q = VonMisesFisher(torch.eye(16)[0], kappa)
    truth = kappa * exact_length(kappa, 16) + exact_log_normaliser(kappa, 16)
    truth -= mpmath.loggamma(8) - mpmath.log(2) - 8 * mpmath.log(mpmath.pi)
    kl = kl_divergence(q, HypersphericalUniform(16)).item()
    assert kl == pytest.approx(float(truth), rel=1e-9)


@pytest.mark.parametrize("dim", [2, 16])
@pytest.mark.parametrize("kappa", [1e6, 1e12])
def test_draws_at_large_concentrations_have_the_deviation_and_the_slope_of_a_gaussian(
    dim: int, kappa: float
) -> None:
    """There kappa theta^2 is chi-square with d - 1 degrees, and theta = s / sqrt(kappa)."""
    count = 20_000
    m = torch.eye(dim)[0]
    k = torch.tensor(kappa, requires_grad=True)
    z = VonMisesFisher(m, k).rsample((count,))
    square = kappa * z[:, 1:].square().sum(-1)
    error = math.sqrt(2 * (dim - 1) / count)
    assert abs(square.mean() - (dim - 1)) < 5 * error
    (slope,) = torch.autograd.grad(z[:, 1:].square().sum(), k)
    assert slope.item() == pytest.approx(-square.sum().item() / kappa**2, rel=0.01)


def test_whole_numbers_are_arguments_like_others() -> None:
    concentrations = torch.tensor([1, 32])
    for f in (log_normaliser, mean_length):
        values = f(concentrations, 16)
        assert values.dtype == torch.get_default_dtype()
        torch.testing.assert_close(values, f(concentrations.double(), 16))
    m = torch.tensor([0, 0, 1])
    whole = VonMisesFisher(m, torch.tensor(32), validate_args=True)
    real = VonMisesFisher(m.double(), 32.0)
    values = torch.tensor([[0, 0, 1], [1, 0, 0]])
    assert whole.mean_direction.dtype == torch.get_default_dtype()
    torch.testing.assert_close(whole.log_prob(values), real.log_prob(values.double()))
    torch.testing.assert_close(whole.mean, real.mean)
    torch.testing.assert_close(whole.entropy(), real.entropy())
    uniform = HypersphericalUniform(3, validate_args=True)
    torch.testing.assert_close(uniform.log_prob(values), uniform.log_prob(values.double()))
    assert (whole.sample((5,)).norm(dim=-1) - 1).abs().max() < 1e-12
