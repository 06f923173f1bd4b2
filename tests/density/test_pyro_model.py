"""Pyro programs as latent models: closed forms, models written by hand, and refusals."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, autoguide, config_enumerate
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

import density
from density import LatentModel, from_pyro
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from univae.errors import InputError

W = torch.randn(8, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
COVARIANCE = 0.25 * torch.linalg.inv(W.T @ W + 0.25 * torch.eye(3, dtype=torch.float64))


def linear(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ W.T, 0.5).to_event(1), obs=x)


def linear_guide(widen: float) -> Callable[[Tensor], None]:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(x @ W @ COVARIANCE / 0.25, widen * COVARIANCE))

    return guide


def evidence(x: Tensor) -> Tensor:
    return MultivariateNormal(torch.zeros(8), W @ W.T + 0.25 * torch.eye(8)).log_prob(x)


@pytest.fixture(autouse=True)
def _closed() -> None:
    pyro.clear_param_store()
    pyro.enable_validation(True)


def test_the_exact_posterior_gives_the_exact_evidence_of_every_datum() -> None:
    x = torch.randn(5, 8)
    model = from_pyro(linear, linear_guide(1.0))
    assert isinstance(model, LatentModel)
    log_w = density.log_weights(model, x, 7, chunk=3)
    assert log_w.shape == (7, 5)
    torch.testing.assert_close(log_w, evidence(x).expand(7, 5))


@pytest.mark.parametrize("proposal", [None, density.Defensive(0.8)])
def test_weights_are_unbiased_within_five_standard_errors(proposal: Any) -> None:
    x = torch.randn(5, 8)
    model = from_pyro(linear, linear_guide(1.5))
    estimate = density.estimate(model, x, 4000, proposal=proposal)
    assert ((estimate.log_likelihood - evidence(x)).abs() < 5 * estimate.standard_error).all()
    assert (estimate.standard_error < 0.05).all()


MEANS = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
SHARES = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


@config_enumerate
def mixture(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        c = pyro.sample("c", dist.Categorical(SHARES))
        z = pyro.sample("z", dist.Normal(MEANS[c], 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def test_a_discrete_latent_is_summed_over() -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.8 * x, 0.6))

    x = 2 * torch.randn(6)
    model = from_pyro(mixture, guide)
    parts = SHARES.log()[:, None] + Normal(MEANS[:, None], math.sqrt(1.25)).log_prob(x)
    estimate = density.estimate(model, x, 4000)
    assert (
        (estimate.log_likelihood - parts.logsumexp(0)).abs() < 5 * estimate.standard_error
    ).all()
    z = model.posterior(x).sample((3,))
    prior = SHARES.log()[:, None, None] + Normal(MEANS[:, None, None], 1.0).log_prob(z.squeeze(-1))
    torch.testing.assert_close(model.prior().log_prob(z), prior.logsumexp(0))


def two_levels(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        top = pyro.sample("top", dist.Normal(0.0, 1.0))
        low = pyro.sample(
            "low", dist.Normal(top.unsqueeze(-1).expand(*top.shape, 2), 0.5).to_event(1)
        )
        pyro.sample("x", dist.Normal(low, 0.3).to_event(1), obs=x)


def test_two_levels_of_latents_lie_side_by_side() -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            low = pyro.sample("low", dist.Normal(0.85 * x, 0.35).to_event(1))
            pyro.sample("top", dist.Normal(0.44 * low.sum(-1), 0.45))

    x = torch.randn(4, 2)
    model = from_pyro(two_levels, guide)
    assert model.posterior(x).event_shape == (3,)
    covariance = torch.ones(2, 2) + (0.25 + 0.09) * torch.eye(2)
    estimate = density.estimate(model, x, 4000)
    truth = MultivariateNormal(torch.zeros(2), covariance).log_prob(x)
    assert ((estimate.log_likelihood - truth).abs() < 5 * estimate.standard_error).all()
    assert (estimate.standard_error < 0.05).all()


def test_a_prior_draw_follows_the_model() -> None:
    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            low = pyro.sample("low", dist.Normal(0.85 * x, 0.35).to_event(1))
            pyro.sample("top", dist.Normal(0.44 * low.sum(-1), 0.45))

    model = from_pyro(two_levels, guide)
    with pytest.raises(
        InputError, match=r"prior and likelihood need data; call posterior\(x\) first"
    ):
        model.prior().sample((2,))
    model.posterior(torch.randn(4, 2))
    z = model.prior().sample((5000,))  # (low_1, low_2, top): variances 1.25, 1.25, 1
    assert z.shape == (5000, 4, 3)
    # 5 standard errors
    variances = z.flatten(0, 1).var(0)
    torch.testing.assert_close(variances, torch.tensor([1.25, 1.25, 1.0]), rtol=0.05, atol=0)


class Program(nn.Module):
    """A hand-written image model, spelt as a Pyro program."""

    def __init__(self, inner: MLPVAE) -> None:
        super().__init__()
        self.inner = inner

    def model(self, x: Tensor) -> None:
        inner = self.inner
        with pyro.plate("data", len(x)):
            if len(inner.latents) == 1:
                z = pyro.sample("z0", dist.Normal(torch.zeros(inner.latent), 1.0).to_event(1))
            else:
                top = pyro.sample("z1", dist.Normal(torch.zeros(inner.latent), 1.0).to_event(1))
                law = inner.down.laws[0](top)
                z = pyro.sample(
                    "z0", dist.Normal(law.base_dist.loc, law.base_dist.scale).to_event(1)
                )
            logits = inner.decode(z) + inner.output.bias
            pyro.sample(
                "x",
                dist.Bernoulli(logits=logits.squeeze(-inner.output.bias.dim())).to_event(3),
                obs=x,
            )

    def guide(self, x: Tensor) -> None:
        inner = self.inner
        with pyro.plate("data", len(x)):
            law = inner.first(inner.output.scaled(x).flatten(1)).base_dist
            z = pyro.sample("z0", dist.Normal(law.loc, law.scale).to_event(1))
            if len(inner.latents) > 1:
                law = inner.up.laws[0](z).base_dist
                pyro.sample("z1", dist.Normal(law.loc, law.scale).to_event(1))


@pytest.mark.parametrize("latents", [(3,), (4, 2)])
def test_pyro_agrees_with_the_models_written_by_hand(latents: tuple[int, ...]) -> None:
    inner = MLPVAE(Pixels((1, 3, 3)), latents=latents, hidden=((7,),) * len(latents))
    program = Program(inner)
    other = from_pyro(program.model, program.guide)
    x = torch.bernoulli(torch.full((5, 1, 3, 3), 0.4))
    z = inner.posterior(x).sample((6,))
    q = other.posterior(x)
    for a, b in (
        (q, inner.posterior(x)),
        (other.prior(), inner.prior()),
    ):
        torch.testing.assert_close(a.log_prob(z), b.log_prob(z), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        other.likelihood(z).log_prob(x), inner.likelihood(z).log_prob(x), rtol=1e-10, atol=1e-10
    )


def test_a_program_trained_by_pyros_elbo_gets_more_likely() -> None:
    inner = MLPVAE(Pixels((1, 3, 3)), latents=(2,), hidden=((16,),))
    program = Program(inner)
    x = (torch.rand(40, 1, 1, 1) < 0.5).double().expand(40, 1, 3, 3).contiguous()
    before = density.estimate(from_pyro(program.model, program.guide), x, 64).log_likelihood.mean()
    loss = Trace_ELBO()(program.model, program.guide)
    optimizer = torch.optim.AdamW(program.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    after = density.estimate(from_pyro(program.model, program.guide), x, 64).log_likelihood.mean()
    assert before < -5
    assert after > -2  # the truth is log 1/2


def guide_z(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))


def outside(x: Tensor) -> None:
    pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))


def subsampled(x: Tensor) -> None:
    with pyro.plate("data", 2 * len(x), subsample_size=len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))


def twice_plated(x: Tensor) -> None:
    with pyro.plate("columns", 3, dim=-3), pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def silent(x: Tensor) -> None:
    pass


def unobserved(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))


def with_another(x: Tensor) -> None:
    linear(x)
    with pyro.plate("more data", len(x)):
        pyro.sample("u", dist.Normal(0.0, 1.0))


def renamed(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(torch.zeros(8), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (linear, outside, "site 'z' of the guide lies outside the data plate"),
        (
            linear,
            subsampled,
            "site 'z' of the guide lies in a plate that is not the 5 data of the batch; do not sub",
        ),
        (linear, twice_plated, "site 'z' of the guide lies in a second plate; use .to_event"),
        (linear, silent, "the guide draws nothing; give it a sample site"),
        (unobserved, guide_z, "the model observes nothing; give a site obs=x"),
        (
            with_another,
            guide_z,
            "site 'u' of the model is neither observed nor in the guide; add it to the guide",
        ),
        (renamed, guide_z, "the guide draws z, which the model lacks"),
    ],
)
def test_a_program_that_gives_no_weight_per_datum_is_refused(
    model: Callable[..., Any], guide: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        density.log_weights(from_pyro(model, guide), torch.randn(5, 8), 3)


def conjugate(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


@pytest.mark.parametrize("called", [True, False])
def test_an_automatic_normal_guide_gives_the_truth(called: bool) -> None:
    x = torch.tensor([[0.5], [1.5], [-2.0]])
    guide = autoguide.AutoNormal(conjugate, init_scale=0.7)
    if called:
        guide(x)
    estimate = density.estimate(from_pyro(conjugate, guide), x, 4000)
    truth = Normal(0.0, math.sqrt(2.0)).log_prob(x[:, 0])
    torch.testing.assert_close(estimate.log_likelihood, truth, atol=0.1, rtol=0)
    assert ((estimate.log_likelihood - truth).abs() < 5 * estimate.standard_error).all()
    assert (estimate.standard_error > 0).all()


def gamma_poisson(x: Tensor) -> None:
    """z ~ Gamma(2, 1), x | z ~ Poisson(z): the evidence is negative binomial.

    Z > 0, so that a Jacobian counts.
    """
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Gamma(2.0, 1.0))
        pyro.deterministic("twice", 2 * z)
        pyro.sample("x", dist.Poisson(z), obs=x)


@pytest.mark.parametrize("proposal", [None, density.Defensive(0.7)])
def test_the_jacobian_of_a_constrained_latent_counts(proposal: Any) -> None:
    x = torch.tensor([0.0, 1.0, 4.0])
    guide = autoguide.AutoNormal(gamma_poisson, init_scale=0.7)
    model = from_pyro(gamma_poisson, guide)
    estimate = density.estimate(model, x, 20_000, proposal=proposal)
    truth = (x + 1).log() - (x + 2) * math.log(2.0)  # Gamma(x + 2) / (x! Gamma(2)) 2^-(x + 2)
    assert ((estimate.log_likelihood - truth).abs() < 5 * estimate.standard_error).all()
    assert (estimate.standard_error < 0.05).all()
    q = model.posterior(x)
    z, log_q = q.rsample_with_log_prob((7,))
    assert (z > 0).all()
    torch.testing.assert_close(q.log_prob(z), log_q, atol=1e-9, rtol=1e-9)


def test_an_automatic_guide_of_vectors_and_two_sites_gives_the_truth() -> None:
    x = torch.randn(4, 2)
    guide = autoguide.AutoNormal(two_levels, init_scale=0.5)
    guide(x)
    loss = Trace_ELBO(num_particles=4)(two_levels, guide)
    optimizer = torch.optim.Adam(guide.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    estimate = density.estimate(from_pyro(two_levels, guide), x, 8000)
    covariance = torch.ones(2, 2) + (0.25 + 0.09) * torch.eye(2)
    truth = MultivariateNormal(torch.zeros(2), covariance).log_prob(x)
    assert ((estimate.log_likelihood - truth).abs() < 5 * estimate.standard_error + 0.02).all()


JOINT = [
    "AutoDiagonalNormal",
    "AutoMultivariateNormal",
    "AutoLowRankMultivariateNormal",
    "AutoLaplaceApproximation",
]


@pytest.mark.parametrize("name", JOINT)
def test_a_guide_that_draws_all_data_jointly_is_refused(name: str) -> None:
    guide = getattr(autoguide, name)(conjugate)
    message = (
        rf"draws the latents of all data jointly, by its site '_{name}_latent', .* use AutoNormal"
    )
    with pytest.raises(InputError, match=message):
        density.estimate(from_pyro(conjugate, guide), torch.randn(3, 1), 10)


def pointed(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Delta(x[:, :3]).to_event(1))


def with_an_auxiliary(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("u", dist.Normal(torch.zeros(3), 1.0).to_event(1), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (
            autoguide.AutoDelta(linear),
            "site 'z' is a point, and a point has no density .* use AutoNormal",
        ),
        (pointed, "site 'z' is a point, and a point has no density"),
        (
            with_an_auxiliary,
            "auxiliary site 'u' belongs to no site of the model; name it SITE_unconstrained",
        ),
    ],
)
def test_a_guide_without_a_density_per_datum_is_refused(
    guide: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        density.estimate(from_pyro(linear, guide), torch.randn(5, 8), 10)


def test_a_prior_stays_beside_the_data_that_it_was_asked_for() -> None:
    def shifted(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x[:, 0], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, 0], 1.0))

    first, second = torch.zeros(3, 1), torch.ones(3, 1)
    model = from_pyro(shifted, guide)
    z = model.posterior(first).sample((2,))
    prior = model.prior()
    model.posterior(second)
    torch.testing.assert_close(prior.log_prob(z), Normal(0.0, 1.0).log_prob(z.squeeze(-1)))
    torch.testing.assert_close(model.prior().log_prob(z), Normal(1.0, 1.0).log_prob(z.squeeze(-1)))
