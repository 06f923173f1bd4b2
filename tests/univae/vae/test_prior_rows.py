"""Every prior under every latent family, and every row of the schedules and floors of the KL."""

import itertools
import math

import pytest
import torch

from univae.latent.families import FAMILIES
from univae.text.special import END, PAD
from univae.vae.config import PRIORS, UniVAEConfig
from univae.vae.kl_weight import ANNEALINGS, FREE_BITS, Elbo, annealed_weight, free_bits
from univae.vae.model import UniVAE

IDS = torch.tensor([[5, 6, 7, END], [8, END, PAD, PAD]])
SAMPLES = 2000

every_model = pytest.mark.parametrize(
    ("prior", "latent"), list(itertools.product(PRIORS, FAMILIES))
)


def model_of(prior: str, latent: str) -> UniVAE:
    config = UniVAEConfig(
        vocab_size=9,
        width=8,
        heads=2,
        layers=2,
        latent_layers=2,
        latent_width=3,
        latent=latent,
        prior=prior,
        max_length=4,
    )
    model = UniVAE(config).eval()
    for weight in model.parameters():  # away from the initial weights, which are small
        weight.data += 0.1 * torch.randn_like(weight)
    return model


@every_model
def test_the_kl_is_the_mean_log_ratio_of_posterior_and_prior(prior: str, latent: str) -> None:
    model = model_of(prior, latent)
    with torch.no_grad():
        q = model.posterior(IDS)
        z = q.sample((SAMPLES,))
        log_ratio = q.log_prob(z) - model.prior().log_prob(z)
        # the KL of the second layer depends on the sample of the first: a mean of samples too
        kl = model.elbo(IDS.repeat(100, 1)).kl.sum(1).view(100, len(IDS))
    error = log_ratio.var(0) / SAMPLES + kl.var(0) / len(kl)
    assert ((log_ratio.mean(0) - kl.mean(0)).abs() < 5 * error.sqrt() + 1e-9).all()


@every_model
def test_only_a_learned_prior_has_weights(prior: str, latent: str) -> None:
    model = model_of(prior, latent)
    is_learned = PRIORS[prior].learned
    assert model.config.learned_prior == is_learned
    assert PRIORS[prior].summary
    bound = model.elbo(IDS)
    (bound.kl.sum() - bound.log_likelihood.sum()).backward()
    weights = [weight for name, weight in model.named_parameters() if name.startswith("expect.")]
    assert bool(weights) == is_learned
    assert all((weight.grad != 0).any() for weight in weights)


@pytest.mark.parametrize("name", ANNEALINGS)
def test_the_weight_of_the_kl_stays_within_zero_and_one_and_ends_at_one(name: str) -> None:
    weights = [annealed_weight(step / 100, name) for step in range(101)]
    assert all(0 <= weight <= 1 for weight in weights)
    assert weights[-1] == 1
    assert ANNEALINGS[name].summary


@pytest.mark.parametrize("name", FREE_BITS)
def test_a_floor_raises_the_kl_up_to_the_floor_of_every_term(name: str) -> None:
    dimensions = torch.rand(5, 2, 3)
    elbo = Elbo(torch.zeros(5), dimensions.sum(-1), dimensions)
    floors = [free_bits(elbo, nats, name).item() for nats in (0.0, 0.3, 0.6, 100.0)]
    assert all(above > below - 1e-9 for below, above in itertools.pairwise(floors))
    assert floors[0] == pytest.approx(elbo.kl.sum().item())
    terms = math.prod(FREE_BITS[name].terms(elbo).shape)
    assert floors[-1] == pytest.approx(100 * terms)
    assert FREE_BITS[name].summary
