"""Newton steps to the best Gaussian: where it is known, what limits a step, and bad input."""

import pytest
import torch
from test_importance import LinearGaussian, wide
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from density import Newton, Refined, Sobol, Widened, estimate
from density.estimation.moved import Moved
from density.estimation.newton import LARGEST_RATIO, LARGEST_SHIFT, _Gaussian
from univae.errors import InputError


class Crude(LinearGaussian):
    """A proposal that is far off: without correlations, displaced, of another spread."""

    def posterior(self, x: Tensor) -> Distribution:
        q = super().posterior(x)
        return Independent(Normal(q.mean + 0.5, 1.7 * q.variance.sqrt()), 1)


def crude() -> tuple[Crude, Tensor]:
    exact, x = wide()
    correlated = exact.w @ torch.tensor([[1.0, 0, 0], [2, 1, 0], [0, 3, 1]])
    return Crude(correlated, exact.mu), x


def moments(moved: Distribution) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of a moved Gaussian, whose map of the noise is affine."""
    assert isinstance(moved, Moved)
    noise = torch.cat([torch.zeros(1, 3), torch.eye(3)])
    z, _ = moved.from_noise(noise.unsqueeze(1).expand(-1, 5, -1))
    root = (z[1:] - z[0]).permute(1, 2, 0)
    return z[0], root @ root.mT


def test_the_fit_of_a_gaussian_posterior_is_that_posterior() -> None:
    model, x = crude()
    exact = LinearGaussian(model.w, model.mu).posterior(x)
    mean, covariance = moments(Newton(rounds=12).fit(model, x, model.posterior(x)))
    torch.testing.assert_close(mean, exact.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(covariance, exact.covariance_matrix, rtol=1e-3, atol=1e-4)


def test_an_exact_posterior_stays_as_it_is() -> None:
    model, x = wide()
    mean, covariance = moments(Newton().fit(model, x, model.posterior(x)))
    torch.testing.assert_close(mean, model.posterior(x).mean)
    torch.testing.assert_close(covariance, model.posterior(x).covariance_matrix)


def test_a_few_steps_leave_less_of_the_gap_than_many_gradient_steps() -> None:
    model, x = crude()
    proposals = [Refined(full=True), Newton(4), Newton(4, proposal=Sobol(Widened(1.0), 4))]
    gaps = []
    for proposal in proposals:
        elbo = estimate(model, x, 2000, proposal=proposal).elbo
        gaps.append((model.evidence(x) - elbo).mean())
    assert max(gaps[1:]) < 0.2 * gaps[0]


def test_a_step_is_limited_where_the_posterior_is_far_and_narrow() -> None:
    model, x = wide(widen=1e4, shift=1000.0)
    q = model.posterior(x)
    moved = Newton(rounds=1).fit(model, x, q)
    root = moved.lower + torch.diag_embed(moved.log_scale.exp())
    variances = torch.linalg.eigvalsh(root @ root.mT)
    torch.testing.assert_close(variances, torch.full_like(variances, 1 / LARGEST_RATIO))
    lengths = moved.shift.square().mean(-1).sqrt()
    torch.testing.assert_close(lengths.amax(), torch.tensor(LARGEST_SHIFT))


def test_where_gradients_are_not_finite_or_no_draw_is_better_the_encoder_stays() -> None:
    class Broken(LinearGaussian):
        def likelihood(self, z: Tensor) -> Distribution:
            return Independent(
                Normal(z @ self.w.T + self.mu + (z - z).sqrt().sum(-1, True), 0.5), 1
            )

    model, x = wide(widen=2.0, shift=0.3)
    broken = Broken(model.w, model.mu, widen=2.0, shift=0.3)
    moved = Newton().fit(broken, x, broken.posterior(x))
    assert torch.equal(moved.shift, torch.zeros(5, 3))
    assert moved.lower is not None
    assert torch.equal(moved.lower, torch.zeros(5, 3, 3))


def test_draws_with_gradients_are_decoded_a_quarter_of_a_chunk_at_once() -> None:
    model, x = wide(widen=2.0)
    fits = []
    for chunk in (8, 1000):
        torch.manual_seed(3)
        model.decoded.clear()
        fits.append(Newton(rounds=1, particles=6).fit(model, x, model.posterior(x), chunk))
        assert model.decoded == ([2, 2, 2, 8, 8] if chunk == 8 else [6, 8, 8])
    torch.testing.assert_close(fits[0].shift, fits[1].shift)


def test_the_fit_leaves_no_gradient_and_keeps_float32() -> None:
    model, x = wide(widen=2.0, shift=0.3)
    model.w.requires_grad_()
    result = estimate(model, x, 512, proposal=Newton())
    assert ((result.log_likelihood - model.evidence(x)).abs() < 0.05).all()
    assert model.w.grad is None
    single = LinearGaussian(model.w.detach().float(), model.mu.float(), widen=2.0)
    q = Independent(Normal(torch.zeros(5, 3, dtype=torch.float32), 1.0), 1)
    assert Newton().fit(single, x.float(), q).sample().dtype == torch.float32


def test_bad_arguments_are_named() -> None:
    for rounds, particles in ((0, 32), (2, 0), (2, 7)):
        with pytest.raises(
            InputError, match=rf"Newton: rounds .* got rounds={rounds}, particles={particles}; 2 of"
        ):
            Newton(rounds, particles)
    model, x = wide()
    large = Independent(Normal(torch.zeros(5, 1025), torch.ones(5, 1025)), 1)
    with pytest.raises(InputError, match=r"at most 1024 latents; got 1025; use Refined\(\)"):
        Newton().fit(model, x, large)
    with (
        torch.inference_mode(),
        pytest.raises(InputError, match=r"Newton: .* got inference mode; use torch"),
    ):
        estimate(model, x, 8, proposal=Newton())


def test_a_scalar_latent_is_fitted_too() -> None:
    class Scalar:
        def prior(self) -> Distribution:
            return Normal(torch.tensor(0.0), torch.tensor(1.0))

        def posterior(self, x: Tensor) -> Distribution:
            return Normal(torch.zeros(len(x)), torch.full((len(x),), 2.0))

        def likelihood(self, z: Tensor) -> Distribution:
            return Normal(z, 0.5)

    model, x = Scalar(), torch.randn(4)
    moved = Newton(6).fit(model, x, model.posterior(x))
    z, _ = moved.from_noise(torch.tensor([[0.0], [1.0]]).expand(-1, 4))
    torch.testing.assert_close(z[0], 0.8 * x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(z[1] - z[0], torch.full((4,), 0.2**0.5), rtol=1e-3, atol=1e-3)


def test_a_covariance_without_a_root_leaves_the_gaussian_as_it_was() -> None:
    root = torch.diag(torch.tensor([1.0, 1e-200])).expand(2, -1, -1)
    before = _Gaussian(torch.ones(2, 2), root)
    noise = torch.randn(8, 2, 2)
    after = before.stepped(noise, -noise)
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(after.root, before.root)


@pytest.mark.parametrize("size", [1e120, 1e308, float("inf")])
def test_gradients_whose_squares_overflow_count_as_zero(size: float) -> None:
    standard = _Gaussian.standard(torch.zeros(2, 2))
    after = standard.stepped(torch.randn(8, 2, 2), torch.full((8, 2, 2), size))
    assert after.mean.isfinite().all()
    assert after.root.isfinite().all()
