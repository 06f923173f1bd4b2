"""The von Mises-Fisher distribution against closed forms, quadrature, and its samples."""

import math
import pickle

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from univae.errors import InputError
from univae.latent.bessel import log_normaliser, mean_length
from univae.latent.gaussian import diagonal_gaussian
from univae.latent.polar_angle import polar_angle
from univae.latent.sphere import HypersphericalUniform
from univae.latent.spherical import VonMisesFisher

# KL from uniform in nats, at the digits printed, for kappa = 4, 8, ..., 128
TABLE = {
    8: (0.78005, 2.00438, 3.82278, 5.95750, 8.24213, 10.5986),
    16: (0.46246, 1.53347, 3.92641, 7.58214, 12.00261, 16.81489),
    32: (0.24465, 0.92133, 3.03946, 7.77471, 15.10567, 24.09108),
    64: (0.12430, 0.48899, 1.83886, 6.05115, 15.47340, 30.15483),
}
POINTS = [
    (d, k, kl)
    for d, row in TABLE.items()
    for k, kl in zip((4, 8, 16, 32, 64, 128), row, strict=True)
]
POINTS += [
    (32, 13, 2.17259),
    (50, 35, 7.7430),
    (50, 80, 19.5152),
    (3, 10, 1.99573),
    (4, 20, 3.258385),
]
HARD = [0.0, 1e-12, 1e-3, 0.7, 3.0, 40.0, 900.0, 2900.0, 1e5, 1e6]


def unit(*shape: int, dtype: torch.dtype | None = None) -> Tensor:
    return normalize(torch.randn(shape, dtype=dtype), dim=-1)


def kappas(*values: float, grad: bool = False) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def midpoints(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count


@pytest.mark.parametrize(("dim", "kappa", "nats"), POINTS)
def test_the_divergence_from_uniform_is_the_printed_one(dim: int, kappa: int, nats: float) -> None:
    kl = kl_divergence(VonMisesFisher(unit(dim), float(kappa)), HypersphericalUniform(dim))
    assert kl.item() == pytest.approx(
        nats, abs=6e-5 if nats in (7.7430, 19.5152, 10.5986) else 6e-6
    )


def test_in_three_dimensions_everything_is_elementary() -> None:
    k = kappas(0.3, 1.0, 10.0, 300.0)
    torch.testing.assert_close(
        log_normaliser(k, 3), (k / (2 * math.pi * -torch.expm1(-2 * k))).log() - k
    )
    torch.testing.assert_close(mean_length(k, 3), 1 / torch.tanh(k) - 1 / k, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("dim", [2, 3, 5, 64, 1000, 4096])
@pytest.mark.parametrize("kappa", [0.0, 1e-3, 0.7, 31.0, 900.0, 2900.0, 1e5])
def test_the_density_integrates_to_one(dim: int, kappa: float) -> None:
    mode = math.atan2(
        math.sqrt(2 * (dim - 2) * (dim - 2 + math.hypot(dim - 2, 2 * kappa))), 2 * kappa
    )
    width = 14 / math.sqrt(math.hypot(dim - 2, 2 * kappa) + 1e-9)
    theta = torch.linspace(max(0.0, mode - width), min(math.pi, mode + width), 400_001)
    ring = (
        -HypersphericalUniform(dim - 1).log_prob(torch.eye(dim - 1)[0])
        if dim > 2
        else torch.tensor(math.log(2))
    )
    log_p = kappa * theta.cos() + torch.special.xlogy(dim - 2, theta.sin().clamp(min=0)) + ring
    log_p = log_p + log_normaliser(kappas(kappa), dim)
    assert torch.trapezoid(log_p.exp(), theta).item() == pytest.approx(1, abs=2e-8)


@pytest.mark.parametrize("dim", [2, 3, 16, 1000, 4096])
def test_bessel_and_series_meet_and_extreme_concentrations_stay_finite(dim: int) -> None:
    k = kappas(*HARD, grad=True)
    for value in (
        log_normaliser(k, dim),
        mean_length(k, dim),
        VonMisesFisher(unit(dim), k).entropy(),
    ):
        (slope,) = torch.autograd.grad(value.sum(), k)
        assert value.isfinite().all()
        assert slope.isfinite().all()
    # crosses from series to Bessel function, twice for dim = 4096
    grid = torch.linspace(1.0, 2.2 * dim, 500)
    middle = log_normaliser(grid, dim)
    assert (middle.diff().diff() < 1e-9).all()  # log C is concave, and A rises from 0 to 1
    assert (mean_length(grid, dim).diff() > 0).all()


def test_at_zero_concentration_the_law_is_uniform() -> None:
    constant = VonMisesFisher(unit(5, 7), 0.0)
    flat = HypersphericalUniform(7)
    z = unit(5, 7)
    assert (kl_divergence(constant, flat) == 0).all()
    torch.testing.assert_close(constant.log_prob(z), flat.log_prob(z))
    torch.testing.assert_close(flat.entropy(), -flat.log_prob(z)[0])
    torch.testing.assert_close(constant.entropy(), flat.entropy().expand(5))
    k = kappas(0.0, grad=True)  # KL = k^2 / (2 d) + ..., A = k / d + ...
    (first,) = torch.autograd.grad(
        kl_divergence(VonMisesFisher(unit(7), k), flat).sum(), k, create_graph=True
    )
    (second,) = torch.autograd.grad(first.sum(), k)
    assert (first.item(), second.item()) == (0.0, pytest.approx(1 / 7))


def test_gradients_in_the_concentration_are_those_of_the_values() -> None:
    k = kappas(0.5, 3.0, 32.0, 400.0, grad=True)
    m = unit(4, 16)
    flat = HypersphericalUniform(16)
    other = VonMisesFisher(unit(4, 16), kappas(2.0, 9.0, 100.0, 30.0, grad=True))
    for value in (
        lambda k: log_normaliser(k, 16),
        lambda k: mean_length(k, 16),
        lambda k: kl_divergence(VonMisesFisher(m, k), flat),
        lambda k: kl_divergence(VonMisesFisher(m, k), other),
        lambda k: kl_divergence(other, VonMisesFisher(m, k)),
        lambda k: (
            other.expand((4,)).log_prob(m) + VonMisesFisher(m, k).log_prob(other.mean_direction)
        ),
    ):
        assert torch.autograd.gradcheck(value, (k,))
        assert torch.autograd.gradgradcheck(value, (k,))


def test_the_density_is_its_formula() -> None:
    m = unit(6, 5)
    z = unit(3, 6, 5)
    k = torch.rand(6) * 50
    expected = log_normaliser(k, 5) + k * (m * z).sum(-1)
    torch.testing.assert_close(VonMisesFisher(m, k).log_prob(z), expected)


def test_the_entropy_is_minus_the_mean_log_density() -> None:
    q = VonMisesFisher(unit(16), 32.0)
    log_q = q.log_prob(q.sample((20_000,)))
    # fails once in 1.7 million seeds
    assert abs(log_q.mean() + q.entropy()) < 5 * log_q.std() / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("dim", "k", "other"), [(2, 5.0, 1.0), (3, 10.0, 25.0), (16, 32.0, 8.0), (40, 20.0, 60.0)]
)
def test_the_divergence_between_two_distributions_is_its_monte_carlo_mean(
    dim: int, k: float, other: float
) -> None:
    p = VonMisesFisher(unit(dim), k)
    q = VonMisesFisher(unit(dim), other)
    z = p.sample((100_000,))
    ratio = p.log_prob(z) - q.log_prob(z)
    assert abs(ratio.mean() - kl_divergence(p, q)) < 5 * ratio.std() / math.sqrt(100_000)
    flat = kl_divergence(p, VonMisesFisher(unit(dim), 0.0))
    torch.testing.assert_close(flat, kl_divergence(p, HypersphericalUniform(dim)))
    torch.testing.assert_close(kl_divergence(p, p), torch.zeros(()), atol=1e-12, rtol=0)


@pytest.mark.slow
def test_a_million_samples_have_the_moments_of_the_distribution() -> None:  # oracle U8
    m = unit(16)
    flat = HypersphericalUniform(16)
    q = VonMisesFisher(m, 32.0)
    z = q.sample((1_000_000,))
    w = z @ m
    assert kl_divergence(q, flat).item() == pytest.approx(7.582144, abs=1e-6)
    assert w.mean().item() == pytest.approx(0.789895, abs=5e-4)
    assert w.square().mean().item() == pytest.approx(0.629736, abs=5e-4)
    assert (z.norm(dim=-1) - 1).abs().max() < 1e-12
    torch.testing.assert_close(z.mean(0), mean_length(kappas(32.0), 16) * m, atol=1e-3, rtol=0)
    torch.testing.assert_close(z.mean(0), q.mean, atol=1e-3, rtol=0)
    assert (q.log_prob(z) - flat.log_prob(z)).mean().item() == pytest.approx(7.582144, abs=0.01)
    # uniform across m: covariance (1 - E[w^2]) / (d - 1) times the projector
    across = z - w.unsqueeze(-1) * m
    expected = (1 - 0.629736) / 15 * (torch.eye(16) - torch.outer(m, m))
    torch.testing.assert_close(across.T @ across / 1_000_000, expected, atol=3e-4, rtol=0)


@pytest.mark.parametrize("dim", [2, 3, 16, 4096])
@pytest.mark.parametrize("kappa", [0.0, 1e-6, 0.5, 32.0, 1e5])
def test_the_polar_angle_has_the_first_two_moments_of_the_distribution(
    dim: int, kappa: float
) -> None:
    k = kappas(kappa)
    grid = midpoints(20_000)
    cos = polar_angle(k, grid, dim).cos()
    assert cos.mean().item() == pytest.approx(mean_length(k, dim).item(), abs=2e-6)
    ratio = mean_length(k, dim).item() / kappa if kappa else 1 / dim
    assert cos.square().mean().item() == pytest.approx(1 - (dim - 1) * ratio, abs=2e-6)
    ends = polar_angle(k, torch.tensor([0.0, 1 - 2.0**-53]), dim)
    assert ((ends >= 0) & (ends <= math.pi)).all()


def test_a_rotation_of_mean_and_noise_rotates_the_draw() -> None:  # oracle U11
    rotation = torch.linalg.qr(torch.randn(9, 9)).Q
    m = unit(4, 9)
    u = torch.rand(3, 4)
    eps = torch.randn(3, 4, 9)
    rotated = VonMisesFisher(m @ rotation.T, 20.0).from_noise(u, eps @ rotation.T)
    torch.testing.assert_close(
        rotated, VonMisesFisher(m, 20.0).from_noise(u, eps) @ rotation.T, atol=1e-12, rtol=0
    )


def test_a_draw_moves_with_its_mean_direction_and_not_with_a_fixed_concentration() -> (
    None
):  # oracle U10
    raw = torch.randn(4, 5, requires_grad=True)
    u = torch.rand(4)
    eps = torch.randn(4, 5)
    assert torch.autograd.gradcheck(
        lambda r: VonMisesFisher(normalize(r, dim=-1), 7.0).from_noise(u, eps), (raw,)
    )
    q = VonMisesFisher(normalize(raw, dim=-1), 7.0)
    assert q.rsample().requires_grad
    assert not q.sample().requires_grad
    assert not q.concentration.requires_grad
    assert not kl_divergence(q, HypersphericalUniform(5)).requires_grad


@pytest.mark.parametrize("dim", [2, 3, 16, 300])
@pytest.mark.parametrize("kappa", [0.05, 4.0, 1e4])
def test_a_learned_concentration_moves_the_angle_as_finite_differences_do(
    dim: int, kappa: float
) -> None:
    k = kappas(kappa, grad=True)
    u = midpoints(400)
    h = 1e-3 * kappa
    (summed,) = torch.autograd.grad(polar_angle(k, u, dim).cos().mean(), k)
    a = mean_length(k, dim)
    (exact,) = torch.autograd.grad(a.sum(), k)
    torch.testing.assert_close(summed, exact, rtol=2e-2, atol=1e-12)  # 400 midpoints cut the tails
    rows = kappas(*[kappa] * 400, grad=True)
    (slope,) = torch.autograd.grad(polar_angle(rows, u, dim).sum(), rows)
    finite = (polar_angle(kappas(kappa + h), u, dim) - polar_angle(kappas(kappa - h), u, dim)) / (
        2 * h
    )
    torch.testing.assert_close(slope, finite, rtol=2e-3, atol=2e-3 * finite.abs().max().item())


def test_a_learned_concentration_follows_the_gradient_of_the_mean_within_five_standard_errors() -> (
    None
):
    k = torch.full((50,), 12.0, requires_grad=True)
    m = unit(8)
    (slope,) = torch.autograd.grad((VonMisesFisher(m, k).rsample((400,)) @ m).mean(0).sum(), k)
    one = kappas(12.0, grad=True)
    (exact,) = torch.autograd.grad(mean_length(one, 8).sum(), one)
    assert abs(slope.mean() - exact) < 5 * slope.std() / math.sqrt(50)
    (first,) = torch.autograd.grad(
        polar_angle(k, torch.rand(50), 8).cos().sum(), k, create_graph=True
    )
    with pytest.raises(
        RuntimeError, match="once_differentiable"
    ):  # rather than a wrong second derivative
        first.sum().backward()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 1), (4, 3)])
def test_each_datum_or_layer_is_drawn_with_its_own_concentration(shape: tuple[int, ...]) -> None:
    k = torch.rand(shape) * 60
    m = unit(4, 3, 6)
    u = torch.rand(2, 4, 3)
    eps = torch.randn(2, 4, 3, 6)
    for learned in (False, True):
        q = VonMisesFisher(m, k.clone().requires_grad_(learned))
        z = q.from_noise(u, eps)
        assert q.batch_shape == (4, 3)
        for i, j in ((0, 0), (3, 1), (2, 2)):
            alone = VonMisesFisher(m[i, j], k.expand(4, 3)[i, j].item())
            torch.testing.assert_close(z[:, i, j], alone.from_noise(u[:, i, j], eps[:, i, j]))
            torch.testing.assert_close(q.log_prob(z)[:, i, j], alone.log_prob(z[:, i, j]))
            torch.testing.assert_close(q.mean[i, j], alone.mean)


def test_expansion_repeats_the_law_and_keeps_its_few_grids() -> None:
    q = VonMisesFisher(unit(6), kappas(3.0).squeeze())
    wide = q.expand((5, 2))
    assert (wide.batch_shape, wide.event_shape, wide.concentration.shape) == ((5, 2), (6,), ())
    assert wide.rsample((3,)).shape == (3, 5, 2, 6)
    assert kl_divergence(wide, HypersphericalUniform(6)).shape == (5, 2)
    assert kl_divergence(q, HypersphericalUniform(6).expand((7,))).shape == (7,)
    flat = HypersphericalUniform(6, (2,)).expand((5, 2))
    assert flat.log_prob(flat.sample((3,))).shape == (3, 5, 2)


def test_uniform_draws_are_unit_vectors_without_preference() -> None:
    z = HypersphericalUniform(4).sample((100_000,))
    assert (z.norm(dim=-1) - 1).abs().max() < 1e-12
    # 0.25 +- 0.0008
    torch.testing.assert_close(z.T @ z / 100_000, torch.eye(4) / 4, atol=5e-3, rtol=0)
    assert z.mean(0).abs().max() < 5 * 0.5 / math.sqrt(100_000)


def test_nothing_of_the_grid_is_stored() -> None:
    q = VonMisesFisher(unit(16), 32.0)
    q.rsample((10,))
    assert len(pickle.dumps(q)) < 3000


def test_a_grid_built_for_scoring_serves_training() -> None:
    raw = torch.randn(3, 11, requires_grad=True)
    with torch.inference_mode():
        VonMisesFisher(unit(3, 11), 17.25).rsample()
    VonMisesFisher(normalize(raw, dim=-1), 17.25).rsample().sum().backward()
    assert raw.grad is not None


@pytest.mark.parametrize(
    ("dtype", "kept"), [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)]
)
@pytest.mark.parametrize("dim", [2, 16, 512])
def test_low_precision_in_gives_unit_vectors_in_float32(
    dtype: torch.dtype, kept: torch.dtype, dim: int
) -> None:
    m = unit(64, dim, dtype=torch.float32).to(dtype)
    q = VonMisesFisher(m, 32.0)
    z = q.rsample((100,))
    assert (z.dtype, q.log_prob(z).dtype, q.mean.dtype) == (kept, kept, kept)
    assert kl_divergence(q, HypersphericalUniform(dim)).dtype == kept
    assert (z.double().norm(dim=-1) - 1).abs().max() < 2e-6
    wide = VonMisesFisher(normalize(m.double(), dim=-1), 32.0)
    torch.testing.assert_close(
        q.log_prob(z).double(), wide.log_prob(normalize(z.double(), dim=-1)), atol=5e-4, rtol=0
    )


def test_float32_keeps_sharp_densities() -> None:
    m = unit(64, 16, dtype=torch.float32)
    q = VonMisesFisher(m, 1e6)
    wide = VonMisesFisher(normalize(m.double(), dim=-1), 1e6)
    z = q.rsample()
    torch.testing.assert_close(
        q.log_prob(z).double(), wide.log_prob(normalize(z.double(), dim=-1)), atol=0.02, rtol=0
    )


@pytest.mark.parametrize("dim", [2, 3, 64, 4096])
def test_extreme_concentrations_draw_and_score_finite_numbers(dim: int) -> None:
    m = unit(len(HARD), dim)
    k = kappas(*HARD, grad=True)
    q = VonMisesFisher(m, k)
    z = q.rsample((50,))
    (slope,) = torch.autograd.grad(q.log_prob(z).sum() + z.sum(), k)
    assert z.isfinite().all()
    assert slope.isfinite().all()
    assert (z.norm(dim=-1) - 1).abs().max() < 1e-12


def test_the_diagonal_gaussian_sums_over_its_coordinates() -> None:
    mean = torch.randn(5, 3)
    scale = torch.rand(5, 3) + 0.1
    q = diagonal_gaussian(mean, scale)
    p = diagonal_gaussian(torch.zeros(3), torch.ones(3))
    exact = (scale.square() + mean.square() - 1 - 2 * scale.log()).sum(-1) / 2
    assert (q.batch_shape, q.event_shape) == ((5,), (3,))
    torch.testing.assert_close(kl_divergence(q, p), exact)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(
        InputError, match=r"unit vectors; got norms in \[2, 2\]; divide by the norm"
    ):
        VonMisesFisher(2 * torch.eye(3), 1.0)
    with pytest.raises(InputError, match=r"finite and not negative; got values in \[-1, -1\]"):
        VonMisesFisher(torch.eye(3), -1.0)
    with pytest.raises(InputError, match=r"at least 2 dimensions; got 1"):
        VonMisesFisher(torch.ones(4, 1), 1.0)
    with pytest.raises(InputError, match=r"dim must be at least 2 to hold a sphere; got dim=1"):
        HypersphericalUniform(1)
    with pytest.raises(InputError, match=r"event shapes \(3,\) and \(4,\); give the prior dim=3"):
        kl_divergence(VonMisesFisher(torch.eye(3), 1.0), HypersphericalUniform(4))
    with pytest.raises(ValueError, match="within the support"):
        VonMisesFisher(torch.eye(3), 1.0).log_prob(2 * torch.eye(3))
    with pytest.raises(ValueError, match="within the support"):
        VonMisesFisher(torch.eye(3)[0], 1.0).expand((3,)).log_prob(2 * torch.eye(3))
    VonMisesFisher(2 * torch.eye(3), 1.0, validate_args=False)
