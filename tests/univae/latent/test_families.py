"""Every latent family: normalised densities, exact KL, gradients, shapes, paths, options."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from univae.errors import InputError
from univae.latent.families import FAMILIES
from univae.latent.family import Family
from univae.latent.sampling import detached, from_noise, to_noise
from univae.vae.config import UniVAEConfig

WIDTH = 8  # of rows
SAMPLES = 20_000
WITHOUT_NOISE = {"vmf"}  # families that importance proposals cannot shape, nor objectives detach


def options(name: str, latent_width: int = 3, **changes: object) -> UniVAEConfig:
    config = UniVAEConfig(9, width=WIDTH, heads=2, latent=name, latent_width=latent_width)
    return replace(config, **changes)


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def family(name: str) -> Family:
    return FAMILIES[name]


def heads(name: str, latent_width: int = 3) -> dict[str, Callable[[Tensor], Distribution]]:
    config = options(name, latent_width)
    return {
        "posterior": FAMILIES[name].posterior_head(config),
        "prior": FAMILIES[name].prior_head(config),
    }


def distributions(name: str, latent_width: int = 3) -> dict[str, Distribution]:
    """Return one distribution of each kind of a family, far from its initial one."""
    row = 2 * torch.randn(WIDTH)
    members = {kind: head(row) for kind, head in heads(name, latent_width).items()}
    return members | {"standard": FAMILIES[name].standard_prior(latent_width, row)}


def test_every_family_has_a_summary(family: Family) -> None:
    assert family.summary


@pytest.mark.parametrize("kind", ["posterior", "prior"])
def test_densities_integrate_to_one(name: str, kind: str) -> None:
    """The standard prior has the whole support: the mean of p / standard is the integral of p."""
    p = distributions(name)[kind]
    samples = p.sample((SAMPLES,))
    standard = FAMILIES[name].standard_prior(3, samples)
    # Half of each as proposal bounds the weights by 2.
    proposals = torch.cat((samples, standard.sample((SAMPLES,))))
    log_p = p.log_prob(proposals)
    mixture = torch.logaddexp(log_p, standard.log_prob(proposals)) - math.log(2)
    weights = (log_p - mixture).exp().view(2, SAMPLES)
    error = (weights.var(1).sum() / 4 / SAMPLES).sqrt()
    assert abs(weights.mean() - 1) < 5 * error


@pytest.mark.parametrize("other", ["standard", "prior"])
def test_the_kl_is_its_monte_carlo_mean(name: str, other: str) -> None:
    members = distributions(name)
    q = members["posterior"]
    p = members[other]
    z = q.sample((SAMPLES,))
    log_ratio = q.log_prob(z) - p.log_prob(z)
    kl = kl_divergence(q, p)
    assert kl > 0
    assert abs(log_ratio.mean() - kl) < 5 * log_ratio.std() / math.sqrt(SAMPLES) + 1e-12


@pytest.mark.parametrize("kind", ["posterior", "prior"])
def test_samples_and_kl_have_gradients_in_every_weight(name: str, kind: str) -> None:
    head = heads(name)[kind]
    row = torch.randn(2, 5, WIDTH, requires_grad=True)
    q = head(row)
    assert q.has_rsample
    z = q.rsample((3,))
    target = torch.randn_like(z)
    standard = FAMILIES[name].standard_prior(3, row)
    ((z - target).square().sum() + kl_divergence(q, standard).sum()).backward()
    for gradient in (row.grad, *(weight.grad for weight in head.parameters())):
        assert gradient.isfinite().all()
        assert (gradient != 0).any()


@pytest.mark.parametrize("lead", [(), (4,), (2, 4)])
@pytest.mark.parametrize("kind", ["posterior", "prior"])
def test_shapes_are_those_of_the_rows(name: str, kind: str, lead: tuple[int, ...]) -> None:
    q = heads(name)[kind](torch.randn(*lead, WIDTH))
    assert (q.batch_shape, q.event_shape) == (lead, (3,))
    z = q.rsample((5, 6))
    assert z.shape == (5, 6, *lead, 3)
    assert q.log_prob(z).shape == (5, 6, *lead)
    assert q.mode.shape == q.mean.shape == (*lead, 3)
    standard = FAMILIES[name].standard_prior(3, z).expand((7,))
    assert standard.sample((2,)).shape == (2, 7, 3)


def test_the_kl_of_coordinates_adds_up_where_they_are_independent(family: Family) -> None:
    name = next(name for name in FAMILIES if FAMILIES[name] is family)
    config = options(name)
    row = torch.randn(4, WIDTH)
    q = family.posterior_head(config)(row)
    p = family.standard_prior(3, row)
    kl = family.kl_dimensions(q, p)
    assert (kl is not None) == family.independent_coordinates
    if kl is not None:
        assert kl.shape == (4, 3)
        torch.testing.assert_close(kl.sum(-1), kl_divergence(q, p))


def test_codable_families_are_diagonal_gaussians(name: str) -> None:
    for distribution in distributions(name).values():
        is_diagonal = isinstance(distribution, Independent)
        is_gaussian = is_diagonal and isinstance(distribution.base_dist, Normal)
        assert is_gaussian == FAMILIES[name].codable


def test_normal_noise_maps_to_samples_with_their_density_or_is_refused(name: str) -> None:
    q = distributions(name)["posterior"]
    eps = torch.randn(SAMPLES, 3)
    if name in WITHOUT_NOISE:
        with pytest.raises(InputError, match="needs a posterior that maps normal noise"):
            from_noise(q, eps)
        with pytest.raises(InputError, match="to_noise: needs a posterior that maps normal noise"):
            to_noise(q, q.sample())
        return
    z, log_q = from_noise(q, eps)
    torch.testing.assert_close(log_q, q.log_prob(z))
    torch.testing.assert_close(to_noise(q, z)[0], eps)
    standardised = (z - q.mean) / q.stddev
    assert standardised.mean(0).abs().max() < 5 / math.sqrt(SAMPLES)
    assert (z[eps > 0] > q.mean.expand_as(z)[eps > 0]).all()


def test_constant_parameters_keep_the_density_or_are_refused(name: str) -> None:
    row = torch.randn(WIDTH, requires_grad=True)
    q = heads(name)["posterior"](row)
    z = q.sample((5,))
    if name in WITHOUT_NOISE:
        with pytest.raises(InputError, match="whose parameters can be held constant"):
            detached(q)
        return
    log_q = detached(q).log_prob(z)
    torch.testing.assert_close(log_q, q.log_prob(z))
    assert not log_q.requires_grad


def test_a_path_starts_and_ends_at_its_ends_within_the_support(name: str, family: Family) -> None:
    p = family.standard_prior(16, torch.zeros(()))
    a, b = p.sample((2, 5))
    path = family.interpolate(a, b, torch.linspace(0, 1, 7))
    assert path.shape == (7, 5, 16)
    torch.testing.assert_close(path[0], a)
    torch.testing.assert_close(path[-1], b)
    assert p.log_prob(path).isfinite().all()


def test_standard_priors_are_float32_at_least_on_the_device_of_the_table(family: Family) -> None:
    table = torch.zeros(1, dtype=torch.bfloat16)
    assert family.standard_prior(4, table).sample().dtype == torch.float32
    assert family.standard_prior(4, table.double()).sample().dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gaussian", {"learn_kappa": True}, "learn_kappa needs latent='vmf'"),
        ("vmf", {"bn_gamma": 0.5}, "no mean to batch-normalise"),
        ("vmf", {"latent_width": 1}, "latent_width >= 2"),
    ],
)
def test_options_of_another_family_are_refused(
    name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        options(name, **changes)
