"""Proposals: densities known in closed form, unbiased weights, and how much better they are."""

import math
import weakref

import pyro.distributions as pyro
import pytest
import torch
from scipy.stats import t as student
from test_importance import LinearGaussian, Mixture, wide
from torch import Tensor
from torch.distributions import Distribution, Gamma, Independent, MultivariateNormal, Normal

from density import (
    Auto,
    Defensive,
    Newton,
    Posterior,
    Proposal,
    Refined,
    Sobol,
    StudentT,
    Widened,
    estimate,
    log_weights,
)
from density.estimation.diagnostics import replicate_means
from density.estimation.moved import Moved
from density.estimation.proposal import chunk_sizes
from density.estimation.refined import bound, even_noise
from univae.errors import InputError
from univae.latent.sampling import from_noise
from univae.latent.spherical import HypersphericalUniform, VonMisesFisher

EVERY = [
    Posterior(),
    Widened(1.3),
    StudentT(4.0),
    StudentT(7.0, factor=1.2),
    Sobol(replicates=20),
    Sobol(Widened(1.2), replicates=20),
    Sobol(StudentT(5.0), replicates=20),
    Defensive(0.7),
    Auto(),
    Refined(steps=5),
    Refined(steps=5, proposal=Sobol(Widened(1.1), replicates=20)),
    Newton(particles=8),
]


@pytest.mark.parametrize("proposal", EVERY, ids=str)
def test_the_weights_of_every_proposal_are_unbiased(proposal: Proposal) -> None:
    model, x = wide(widen=1.5, shift=0.05)
    log_w = log_weights(model, x, 20_000, proposal=proposal) - model.evidence(x)
    w = (log_w if proposal.replicates == 1 else replicate_means(log_w, proposal.replicates)).exp()
    # 5 data: false alarms once in 300,000 seeds, with 20 replicates (19 degrees of freedom) once in
    # 2,500
    assert ((w.mean(0) - 1).abs() < 5 * w.std(0) / math.sqrt(len(w))).all()
    assert (log_w.std(0) > 0.01).all()


@pytest.mark.parametrize("proposal", EVERY, ids=str)
@pytest.mark.parametrize("chunk", [7, 64, None])
def test_any_chunk_size_draws_exactly_the_samples_asked_for(
    proposal: Proposal, chunk: int | None
) -> None:
    model, x = wide(widen=1.5)
    log_w = log_weights(model, x, 100, proposal=proposal, chunk=chunk)
    assert log_w.shape == (100, 5)
    assert len(log_w[:, 0].unique()) == 100
    assert model.encoded == 5
    refining = []
    if isinstance(proposal, Auto):  # the draws of its pilot, in chunks
        refining = list(chunk_sizes(80, chunk or 80))
    # Refined decodes 8 draws in each of 5 steps; 16, twice, to judge an iterate
    if isinstance(proposal, Refined):
        refining = [8, 8, 16, 16, 8, 16, 16, 8, 16, 16, 8, 16, 16, 16, 16]
    # Newton decodes 8 draws with gradients in each of 2 steps; 8, twice, to judge the fit
    if isinstance(proposal, Newton):
        refining = [*chunk_sizes(8, (chunk or 100) // 4)] * 2 + [8, 8]
    assert model.decoded[: len(refining)] == refining
    assert sum(model.decoded) == 100 + sum(refining)
    assert max(model.decoded[len(refining) :]) <= (chunk or 100)


@pytest.mark.parametrize("law", [Widened(1.0), StudentT(5.0)], ids=str)
def test_the_chunk_does_not_change_a_sobol_set(law: Widened | StudentT) -> None:
    results = []
    for chunk in (1, 3, 64):
        model, x = wide(widen=1.5)
        torch.manual_seed(1)
        results.append(
            log_weights(model, x * 0 + model.mu, 64, proposal=Sobol(law, 1), chunk=chunk)
        )
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(results[0], results[2], rtol=0, atol=1e-12)


def test_no_draw_outlives_its_chunk() -> None:
    class Watched(LinearGaussian):
        def likelihood(self, z: Tensor) -> Distribution:
            alive.append(sum(ref() is not None for ref in seen))
            seen.append(weakref.ref(z))
            return super().likelihood(z)

    seen: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    model, x = wide()
    for proposal in (None, Widened(), Sobol(replicates=1), Defensive()):
        estimate(Watched(model.w, model.mu), x, 200, proposal=proposal, chunk=10)
        assert len(seen) == 20
        assert max(alive) <= 1  # the draws before these, at most
        seen.clear(), alive.clear()


def families() -> list[Distribution]:
    loc = torch.randn(4, 3, 2)
    scale = torch.rand(4, 3, 2) + 0.5
    tril = torch.tensor([[1.4, 0.0], [0.4, 0.6]])
    return [
        Normal(loc[:, 0, 0], scale[:, 0, 0]),
        Independent(Normal(loc[:, 0], scale[:, 0]), 1),
        Independent(Normal(loc, scale), 2),
        MultivariateNormal(loc[:, 0], scale_tril=tril),
        Independent(MultivariateNormal(loc, scale_tril=tril), 1),
    ]


@pytest.mark.parametrize("family", range(5))
def test_normal_noise_becomes_a_draw(family: int) -> None:
    q = families()[family]
    count = 20_000
    z, log_q = from_noise(q, torch.randn(count, 4, *q.event_shape))
    assert log_q.shape == (count, 4)
    torch.testing.assert_close(log_q, q.log_prob(z))
    assert ((z.mean(0) - q.mean).abs() < 5 * q.stddev / math.sqrt(count)).all()
    ours, theirs = (
        v.reshape(count, 4, -1).transpose(0, 1) for v in (z, q.sample(torch.Size((count,))))
    )
    for a, b in zip(ours, theirs, strict=True):
        # 5 deviations of the widest
        torch.testing.assert_close(a.T.cov(), b.T.cov(), atol=0.14, rtol=0)


def gaussian(data: int = 3, dim: int = 4) -> MultivariateNormal:
    a = torch.randn(dim, dim)
    return MultivariateNormal(torch.randn(data, dim), a @ a.T + torch.eye(dim))


def drawn(proposal: Proposal, q: Distribution, samples: int = 50) -> tuple[Tensor, Tensor]:
    model, x = wide()
    pieces = list(proposal.draws(model, x, q, samples, samples))
    return torch.cat([z for z, _ in pieces]), torch.cat([log_q for _, log_q in pieces])


@pytest.mark.parametrize("wrap", [lambda law: law, Sobol])
def test_the_density_of_a_widened_posterior_is_that_of_the_wider_normal(wrap: type[Sobol]) -> None:
    q = gaussian()
    z, log_r = drawn(wrap(Widened(1.7)), q)
    torch.testing.assert_close(
        log_r, MultivariateNormal(q.loc, 1.7**2 * q.covariance_matrix).log_prob(z)
    )


@pytest.mark.parametrize("wrap", [lambda law: law, Sobol])
def test_the_density_of_a_student_posterior_is_that_of_the_library(wrap: type[Sobol]) -> None:
    q = gaussian()
    z, log_r = drawn(wrap(StudentT(3.5, factor=1.3)), q)
    expected = pyro.MultivariateStudentT(torch.tensor(3.5), q.loc, 1.3 * q.scale_tril).log_prob(z)
    torch.testing.assert_close(log_r, expected)


def test_the_tail_of_a_student_posterior_is_chi_square() -> None:
    q = Independent(Normal(torch.zeros(3, 4), 1.0), 1)
    z, _ = drawn(StudentT(6.0), q, 40_000)
    # |z|^2 / d is F(4, 6) of mean nu / (nu - 2), whatever the seed: heavier than the normal's 1
    square = z.square().mean(-1).flatten()
    assert abs(square.mean() - 1.5) < 5 * square.std() / math.sqrt(len(square))
    f = Gamma(2.0, 2.0).sample(square.shape) / Gamma(3.0, 3.0).sample(square.shape)
    levels = torch.tensor([0.05, 0.5, 0.95])
    torch.testing.assert_close(square.quantile(levels), f.quantile(levels), rtol=0.03, atol=0)


def test_the_density_of_a_defensive_mixture_is_that_of_the_mixture() -> None:
    model, x = wide(widen=0.3)
    q = model.posterior(x)
    z, log_r = drawn(Defensive(0.6), q, 4000)
    torch.testing.assert_close(
        log_r.exp(), 0.6 * q.log_prob(z).exp() + 0.4 * model.prior().log_prob(z).exp()
    )
    expected = 0.6 * q.mean  # the prior's mean is zero
    error = z.std(0) / math.sqrt(len(z))
    assert ((z.mean(0) - expected).abs() < 5 * error).all()  # 15 numbers: once in 100,000 seeds


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_defensive_weight_never_exceeds_the_likelihood_over_the_share_of_the_prior(
    share: float,
) -> None:
    model, x = wide(widen=0.02, shift=1.0)  # a proposal that misses nearly everything
    prior = model.prior()
    for z, log_r in Defensive(share).draws(model, x, model.posterior(x), 2000, 500):
        log_likelihood = model.likelihood(z).log_prob(x)
        log_w = prior.log_prob(z) + log_likelihood - log_r
        assert (log_w <= log_likelihood - math.log(1 - share) + 1e-9).all()
        assert (log_w > log_likelihood - math.log(1 - share) - 0.1).any()  # the bound is tight


def test_a_defensive_mixture_serves_discrete_latents() -> None:
    model = Mixture()
    x = torch.randn(6)
    exact = (model.logits + Normal(model.means, 1.0).log_prob(x[:, None])).logsumexp(-1)
    result = estimate(model, x, 20_000, proposal=Defensive(0.8))
    assert ((result.log_likelihood - exact).abs() < 5 * result.standard_error + 1e-12).all()
    assert (result.standard_error > 1e-4).all()


def errors(proposal: Proposal | None, samples: int, data: int = 400) -> Tensor:
    model, x = wide(widen=1.4)
    x = x[:1].expand(data, -1)
    return (log_weights(model, x, samples, proposal=proposal) - model.evidence(x)).logsumexp(
        0
    ) - math.log(samples)


def test_sobol_points_are_worth_many_times_their_number() -> None:
    plain = errors(None, 256)
    sobol = errors(Sobol(replicates=1), 256)
    # as 4096 independent draws; measured: 1/40
    assert sobol.square().mean() < plain.square().mean() / 16
    assert sobol.unique().numel() == 400  # each datum its own shift


def test_every_sobol_set_is_scrambled_anew_and_every_datum_shifted() -> None:
    q = Independent(Normal(torch.zeros(3, 2), 1.0), 1)
    a, b = (torch.special.ndtr(drawn(Sobol(replicates=1), q, 8)[0]) for _ in range(2))
    # what a shift modulo 1 leaves as it is
    steps_a = a.diff(dim=0) % 1
    steps_b = b.diff(dim=0) % 1
    torch.testing.assert_close(steps_a[:, 0], steps_a[:, 1])
    assert (a[0, 0] != a[0, 1]).all()
    assert (steps_a - steps_b).abs().max() > 0.01


def test_the_errors_of_data_that_share_a_sobol_set_are_uncorrelated() -> None:
    runs = torch.stack([errors(Sobol(replicates=1), 32, data=20) for _ in range(150)])
    ratio = runs.mean(1).var() * 20 / runs.var(0).mean()  # 1 + 19 times the correlation
    assert abs(ratio - 1) < 5 * math.sqrt(2 / 150)


def test_the_error_between_replicates_is_honest_and_that_of_independent_weights_too_large() -> None:
    model, x = wide(widen=1.4)
    x = x[:1].expand(400, -1)
    one = estimate(model, x, 256, proposal=Sobol(replicates=1))
    eight = estimate(model, x, 256, proposal=Sobol(replicates=8))
    assert one.standard_error.mean() > 4 * one.log_likelihood.std()
    spread = eight.log_likelihood.std().item()
    # 4 % each sd
    assert eight.standard_error.square().mean().sqrt().item() == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("replicates", [2, 5, 8, 16, 32])
def test_two_standard_errors_between_sets_cover_as_student_says(replicates: int) -> None:
    model, x = wide(widen=1.4)
    x = x[:1].expand(2000, -1)
    result = estimate(model, x, 8 * replicates, proposal=Sobol(replicates=replicates))
    error = result.log_likelihood - model.evidence(x)
    coverage = (error.abs() < 2 * result.standard_error).double().mean().item()
    expected = 1 - 2 * student.sf(2, replicates - 1)
    # the two decimals of the docstring
    assert expected == pytest.approx(
        {2: 0.70, 5: 0.88, 8: 0.91, 16: 0.94, 32: 0.95}[replicates], abs=0.005
    )
    assert abs(coverage - expected) < 5 * math.sqrt(expected * (1 - expected) / 2000)


def test_the_error_of_the_default_sets_is_honest_for_any_number_of_samples() -> None:
    model, x = wide(widen=1.4)
    x = x[:1].expand(1000, -1)
    for samples in (100, 128):
        result = estimate(model, x, samples, proposal=Sobol())
        error = result.log_likelihood - model.evidence(x)
        ratio = result.standard_error.square().mean() / error.square().mean()
        assert 0.8 < ratio < 1.25  # the variance of an error has a relative error of 4%
        assert (error.abs() < 2 * result.standard_error).double().mean() > 0.9


@pytest.mark.parametrize("samples", [1, 5, 16, 21])
def test_any_number_of_samples_is_drawn_in_sets(samples: int) -> None:
    model, x = wide(widen=1.5)
    log_w = log_weights(model, x, samples, proposal=Sobol(), chunk=3)
    assert log_w.shape == (samples, 5)
    assert len(log_w[:, 0].unique()) == samples


def test_float32_posteriors_draw_float32_latents() -> None:
    q = Independent(Normal(torch.zeros(3, 4, dtype=torch.float32), 1.0), 1)
    for proposal in (Widened(), StudentT(), Sobol()):
        z, _ = drawn(proposal, q)
        assert z.dtype == torch.float32


def test_a_moved_posterior_is_the_normal_it_should_be() -> None:
    loc = torch.randn(3, 4)
    scale = torch.rand(3, 4) + 0.5
    shift = torch.randn(3, 4)
    log_scale = torch.randn(3, 4)
    moved = Moved(Independent(Normal(loc, scale), 1), shift, log_scale)
    z, log_q = moved.rsample_with_log_prob((20_000,))
    expected = Independent(Normal(loc + scale * shift, scale * log_scale.exp()), 1)
    torch.testing.assert_close(log_q, expected.log_prob(z))
    assert ((z.mean(0) - expected.mean).abs() < 5 * expected.stddev / math.sqrt(20_000)).all()
    assert moved.sample((2,)).shape == (2, 3, 4)
    scalar = Moved(Normal(loc[:, 0], scale[:, 0]), shift[:, 0], log_scale[:, 0])
    z, log_q = scalar.rsample_with_log_prob((5,))
    torch.testing.assert_close(
        log_q, Normal(expected.mean[:, 0], expected.stddev[:, 0]).log_prob(z)
    )


def moved_gaussian(*, full: bool) -> tuple[Moved, MultivariateNormal]:
    """Return a moved Gaussian, and the same distribution by matrices."""
    q = gaussian()
    shift = torch.randn(3, 4)
    log_scale = torch.randn(3, 4) / 2
    lower = torch.randn(3, 4, 4).tril(-1)
    matrix = torch.diag_embed(log_scale.exp()) + full * lower
    mean = q.loc + (q.scale_tril @ shift.unsqueeze(-1)).squeeze(-1)
    moved = Moved(q, shift, log_scale, lower if full else None)
    return moved, MultivariateNormal(mean, scale_tril=q.scale_tril @ matrix)


@pytest.mark.parametrize("full", [False, True])
def test_a_moved_posterior_has_a_density_everywhere_and_maps_back_to_noise(full: bool) -> None:
    moved, expected = moved_gaussian(full=full)
    z = 2 * torch.randn(7, 3, 4)
    torch.testing.assert_close(moved.log_prob(z), expected.log_prob(z))
    eps = torch.randn(7, 3, 4)
    drawn_z, log_q = moved.from_noise(eps)
    torch.testing.assert_close(log_q, expected.log_prob(drawn_z))
    noise, density = moved.to_noise(drawn_z)
    torch.testing.assert_close(noise, eps)
    torch.testing.assert_close(density, log_q)
    twice = Moved(moved, moved.shift, moved.log_scale, moved.lower)
    torch.testing.assert_close(twice.to_noise(twice.from_noise(eps)[0])[0], eps)


def test_even_noise_makes_the_bound_of_a_linear_gaussian_model_exact() -> None:
    model, x = wide()
    q = model.posterior(x)
    shift = torch.randn(5, 3)
    moved = Moved(q, shift, torch.zeros(5, 3))
    # KL(N(m, I) || N(0, I)) in the noise, where the posterior is exact
    expected = model.evidence(x) - shift.square().sum(-1) / 2
    for count in (2, 4, 16):
        torch.testing.assert_close(bound(model, x, moved, even_noise(count, shift)), expected)
    single = even_noise(1, shift)
    assert single.shape == (1, 5, 3)
    assert single.std() > 0.5


@pytest.mark.slow
def test_a_full_covariance_reaches_posteriors_that_a_diagonal_does_not() -> None:
    model, x = wide()
    covariance = model.posterior(x).covariance_matrix[0]

    class Diagonal(LinearGaussian):
        def posterior(self, x: Tensor) -> Distribution:
            q = super().posterior(x)
            return Independent(Normal(q.mean, covariance.diag().sqrt()), 1)

    rotated = Diagonal(model.w @ torch.tensor([[1.0, 0, 0], [2, 1, 0], [0, 3, 1]]), model.mu)
    exact = LinearGaussian(rotated.w, rotated.mu)
    covariance = exact.posterior(x).covariance_matrix[0]
    gaps = []
    for full in (False, True):
        result = estimate(rotated, x, 2000, proposal=Refined(200, particles=16, full=full))
        gaps.append((exact.evidence(x) - result.elbo).mean())
    assert gaps[1] < 0.2 * gaps[0]


def test_only_the_rows_asked_for_are_refined_at_their_cost_alone() -> None:
    model, x = wide(widen=2.0, shift=0.5)
    q = model.posterior(x)
    rows = torch.tensor([True, False, False, True, False])
    model.encoded = 0
    moved = Refined(8).refine(model, x, q, rows=rows)
    assert model.encoded == 4  # a group of four: these two, and the last of them twice more
    is_moved = (moved.shift != 0).any(-1)
    assert torch.equal(is_moved, rows)
    assert torch.equal((moved.log_scale != 0).any(-1), rows)
    base = Moved(q, torch.full((5, 3), 0.1), torch.full((5, 3), 0.3))
    again = Refined(8).refine(model, x, base, rows=rows)
    z = torch.randn(4, 5, 3)
    torch.testing.assert_close(again.log_prob(z)[:, ~rows], base.log_prob(z)[:, ~rows])
    assert torch.equal(Refined(8).refine(model, x, q, rows=~rows & rows).shift, torch.zeros(5, 3))


def test_refinement_lifts_the_bound_of_a_poor_encoder_at_every_datum() -> None:
    model, x = wide(widen=2.0, shift=0.5)
    plain = estimate(model, x, 2000)
    refined = estimate(model, x, 2000, proposal=Refined())
    assert (refined.elbo > plain.elbo + 1).all()  # by 10 nats; the gap of the best bound is below 1
    longer = estimate(model, x, 2000, proposal=Refined(steps=60))
    assert (longer.elbo > model.evidence(x) - 0.2).all()
    assert (longer.effective_samples > 10 * plain.effective_samples).all()


@pytest.mark.parametrize("lr", [0.1, 5.0])
def test_refinement_never_lowers_the_bound(lr: float) -> None:
    model, x = wide()  # nothing to gain: every step away from the exact posterior loses
    result = estimate(model, x, 50, proposal=Refined(lr=lr))
    torch.testing.assert_close(result.elbo, model.evidence(x))
    model, x = wide(widen=2.0, shift=0.5)
    plain = estimate(model, x, 2000)
    refined = estimate(model, x, 2000, proposal=Refined(lr=lr))
    assert (refined.elbo > plain.elbo - 0.3).all()  # 5 standard errors


def test_refinement_feeds_other_proposals_and_leaves_no_gradient() -> None:
    model, x = wide(widen=2.0, shift=0.3)
    model.w.requires_grad_()
    sobol = Refined(steps=60, proposal=Sobol(Widened(1.1), replicates=8))
    result = estimate(model, x, 512, proposal=sobol)
    assert ((result.log_likelihood - model.evidence(x)).abs() < 0.05).all()
    assert model.w.grad is None
    result = estimate(model, x, 512, proposal=Refined(proposal=Defensive()))
    assert ((result.log_likelihood - model.evidence(x)).abs() < 5 * result.standard_error).all()
    assert (result.effective_samples > 100).all()
    with (
        torch.inference_mode(),
        pytest.raises(InputError, match=r"Refined: .* got inference mode; use torch"),
    ):
        estimate(model, x, 8, proposal=Refined())


class Sphere:
    def prior(self) -> Distribution:
        return HypersphericalUniform(3)

    def posterior(self, x: Tensor) -> Distribution:
        return VonMisesFisher(torch.nn.functional.normalize(x, dim=-1), 5.0)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)


@pytest.mark.parametrize("proposal", [Widened(), StudentT(), Sobol(), Refined(), Newton()], ids=str)
def test_a_posterior_that_is_no_map_of_normal_noise_is_named(proposal: Proposal) -> None:
    model = Sphere()
    x = torch.randn(2, 3)
    with pytest.raises(
        InputError, match=r"MultivariateNormal, .* got VonMisesFisher; use .* Defensive\(\)"
    ):
        estimate(model, x, 8, proposal=proposal)
    result = estimate(model, x, 20_000, proposal=Defensive())
    reference = estimate(model, x, 20_000)
    error = result.standard_error + reference.standard_error
    assert ((result.log_likelihood - reference.log_likelihood).abs() < 5 * error).all()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"Sobol: .* at least 1; got replicates=0; 16 gives"):
        Sobol(replicates=0)
    for share in (0.0, 1.0):
        with pytest.raises(
            InputError, match=rf"Defensive: share must lie between 0 and 1; got share={share}"
        ):
            Defensive(share)
    with pytest.raises(
        InputError, match=r"Widened: factor must be positive and finite; got factor=0.0"
    ):
        Widened(0.0)
    with pytest.raises(
        InputError, match=r"StudentT: degrees must be positive and finite; got degrees=-1.0"
    ):
        StudentT(-1.0)
    with pytest.raises(InputError, match=r"Refined: .* at least 1; got steps=0, particles=8"):
        Refined(steps=0)
