"""The estimators of ``density`` on the text model: the same likelihood by every proposal."""

import functools

import pytest
import torch
from torch import Tensor

from density import (
    Auto,
    Defensive,
    Estimate,
    Proposal,
    Refined,
    Sobol,
    StudentT,
    Widened,
    estimate,
    estimate_auto,
    log_weights,
)
from univae.errors import InputError
from univae.vae.model import UniVAE, UniVAEConfig


def model(latent: str = "gaussian", prior: str = "standard") -> tuple[UniVAE, Tensor]:
    torch.manual_seed(1)
    config = UniVAEConfig(12, 16, 2, 3, 2, 3, latent=latent, kappa=4.0, prior=prior, max_length=8)
    built = UniVAE(config).eval()
    with torch.no_grad():  # far enough from its start for proposals to differ
        for p in built.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return built, torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0], [9, 9, 2, 0]])


GAUSSIAN = [
    Widened(1.3),
    StudentT(6.0, 1.1),
    Sobol(Widened(1.2)),
    Defensive(0.8),
    Refined(2, particles=4),
    Auto(),
]


@functools.cache
def plain_estimate(prior: str) -> Estimate:
    built, ids = model(prior=prior)
    return estimate(built, ids, 4096)


@pytest.mark.parametrize("prior", ["standard", pytest.param("learned", marks=pytest.mark.slow)])
@pytest.mark.parametrize("proposal", GAUSSIAN, ids=lambda p: type(p).__name__)
@torch.no_grad()
def test_every_proposal_estimates_the_same_likelihood_of_a_text(
    proposal: Proposal, prior: str
) -> None:
    plain = plain_estimate(prior)
    built, ids = model(prior=prior)
    other = estimate(built, ids, 4096, proposal=proposal)
    error = (plain.standard_error.square() + other.standard_error.square()).sqrt()
    # 5 standard errors, 36 comparisons: a false alarm in about 60 000 seeds.
    assert ((plain.log_likelihood - other.log_likelihood).abs() < 5 * error).all()
    assert (error < 0.2).all()


@pytest.mark.parametrize("prior", ["standard", pytest.param("learned", marks=pytest.mark.slow)])
@torch.no_grad()
def test_an_estimate_that_decides_for_itself_is_that_of_many_samples(prior: str) -> None:
    plain = plain_estimate(prior)
    built, ids = model(prior=prior)
    result = estimate_auto(built, ids, samples=256)
    error = (plain.standard_error.square() + result.estimate.standard_error.square()).sqrt()
    assert ((plain.log_likelihood - result.estimate.log_likelihood).abs() < 5 * error).all()
    assert result.reliable.all()


@torch.no_grad()
def test_noise_maps_to_the_draws_of_a_layered_posterior() -> None:
    built, ids = model()
    q = built.posterior(ids)
    torch.manual_seed(0)
    z, log_q = q.rsample_with_log_prob(torch.Size((4,)))
    torch.manual_seed(0)
    # layer by layer, as rsample draws
    eps = torch.stack([torch.randn(4, 3, 3) for _ in range(2)], -2)
    mapped, density = q.from_noise(eps)
    torch.testing.assert_close(mapped, z)
    torch.testing.assert_close(density, log_q)
    torch.testing.assert_close(density, q.log_prob(mapped))
    torch.testing.assert_close(q.to_noise(mapped)[0], eps)


@pytest.mark.parametrize("prior", ["standard", pytest.param("learned", marks=pytest.mark.slow)])
@torch.no_grad()
def test_latents_on_the_sphere_mix_with_the_prior_and_refuse_normal_noise(prior: str) -> None:
    built, ids = model("vmf", prior)
    plain = estimate(built, ids, 4096)
    mixed = estimate(built, ids, 4096, proposal=Defensive(0.8))
    error = (plain.standard_error.square() + mixed.standard_error.square()).sqrt()
    assert ((plain.log_likelihood - mixed.log_likelihood).abs() < 5 * error).all()
    with pytest.raises(
        InputError,
        match=r"from_noise: needs a posterior that maps normal noise .*; got VonMises",
    ):
        log_weights(built, ids, 8, proposal=Widened())
