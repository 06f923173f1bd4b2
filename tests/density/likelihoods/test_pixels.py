"""Distributions of pixels against tables and naive formulas; bits per dimension."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from density.likelihoods.bits import bits_per_dim, dequantise
from density.likelihoods.distributions import (
    BernoulliPixels,
    CategoricalPixels,
    GaussianPixels,
    LevelPixels,
    LogisticPixels,
)
from density.likelihoods.head import Output, Pixels
from univae.errors import InputError

LEVELS = 7


def logistic(*shape: int, components: int = 3) -> LogisticPixels:
    means, log_scale, weights = torch.randn(3, *shape, components)
    return LogisticPixels(
        LEVELS / 2 + 3 * means, 0.3 * log_scale, weights, event_dims=1, levels=LEVELS
    )


DISTRIBUTIONS: dict[str, Callable[..., LevelPixels]] = {
    "bernoulli": lambda *shape: BernoulliPixels(3 * torch.randn(shape), event_dims=1),
    "categorical": lambda *shape: CategoricalPixels(torch.randn(*shape, LEVELS), event_dims=1),
    "one logistic": lambda *shape: logistic(*shape, components=1),
    "mixture": logistic,
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_probabilities_of_a_pixels_levels_sum_to_one(name: str) -> None:
    total = DISTRIBUTIONS[name](50, 4).log_table().exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(50, 4), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_probabilities_of_all_images_sum_to_one(name: str) -> None:
    law = DISTRIBUTIONS[name](3)
    images = torch.tensor(list(itertools.product(range(law.levels), repeat=3)), dtype=torch.float64)
    assert law.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("log_scale", [-20.0, -3.0, 0.0, 40.0])
@pytest.mark.parametrize("mean", [-40.0, 0.0, 127.4, 255.0, 900.0])
def test_256_levels_of_a_logistic_sum_to_one_however_narrow_or_far_away(
    mean: float, log_scale: float
) -> None:
    law = LogisticPixels(
        torch.full((1, 1), mean), torch.full((1, 1), log_scale), torch.zeros(1, 1), 1, 256
    )
    table = law.log_table()
    assert table.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert table.isfinite().all()


def test_one_level_of_a_logistic_far_in_either_tail_keeps_its_digits() -> None:
    def mass(x: int) -> float:
        law = LogisticPixels(
            torch.full((1, 1), 100.0), torch.zeros(1, 1), torch.zeros(1, 1), 1, 256
        )
        return law.log_prob(torch.tensor([float(x)])).item()

    # sigma(b) - sigma(a) is e^b (1 - e^-1) in the lower tail, and the law is symmetric about its
    # mean
    assert mass(30) == pytest.approx(-69.5 + math.log1p(-math.exp(-1)), abs=1e-12)
    assert mass(170) == pytest.approx(mass(30), abs=1e-12)
    assert mass(0) == pytest.approx(-99.5, abs=1e-12)
    assert mass(255) == pytest.approx(-154.5, abs=1e-12)


def naive(law: LevelPixels, x: Tensor) -> Tensor:
    """Return the same log-probability by the textbook formula."""
    if isinstance(law, BernoulliPixels):
        return Independent(Bernoulli(logits=law.logits), 1).log_prob(x)
    if isinstance(law, CategoricalPixels):
        return Independent(Categorical(logits=law.logits), 1).log_prob(x)
    assert isinstance(law, LogisticPixels)

    def below(edge: Tensor) -> Tensor:
        return torch.sigmoid((edge.unsqueeze(-1) - law.means) / law.log_scale.exp())

    upper = torch.where((x == law.levels - 1).unsqueeze(-1), 1.0, below(x + 0.5))
    lower = torch.where((x == 0).unsqueeze(-1), 0.0, below(x - 0.5))
    return (law.weights.softmax(-1) * (upper - lower)).sum(-1).log().sum(-1)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_log_prob_and_its_gradient_agree_with_the_naive_formula(name: str) -> None:
    law = DISTRIBUTIONS[name](20, 4)
    x = torch.randint(law.levels, (5, 20, 4)).double()
    parts = [value.requires_grad_() for value in vars(law).values() if isinstance(value, Tensor)]
    ours = law.log_prob(x)
    plain = naive(law, x)
    torch.testing.assert_close(ours, plain, atol=1e-9, rtol=1e-9)
    for a, b in zip(
        torch.autograd.grad(ours.sum(), parts), torch.autograd.grad(plain.sum(), parts), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


def test_log_prob_passes_gradcheck() -> None:
    x = torch.tensor([0.0, 3.0, 6.0])
    parts = [torch.randn(2, 3, 2, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *p: LogisticPixels(*p, 1, LEVELS).log_prob(x), parts)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_data_broadcast_over_sample_axes_and_pixels_are_summed(name: str) -> None:
    law = DISTRIBUTIONS[name](6, 5, 4)  # (samples, batch, pixels)
    x = torch.randint(law.levels, (5, 4)).double()
    assert law.batch_shape == (6, 5)
    assert law.event_shape == (4,)
    whole = law.log_prob(x)
    assert whole.shape == (6, 5)
    pixels = law.log_table().gather(-1, x.long().expand(6, 5, 4).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(whole, pixels.sum(-1))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_samples_have_the_probabilities_of_the_table_and_its_mean(name: str) -> None:
    law = DISTRIBUTIONS[name](3)
    count = 40_000
    draws = law.sample((count,))
    assert draws.shape == (count, 3)
    p = law.log_table().exp()
    share = torch.stack([(draws == k).double().mean(0) for k in range(law.levels)], -1)
    error = (p * (1 - p) / count).sqrt()
    assert ((share - p).abs() < 5 * error + 1e-6).all()  # 21 statistics: fails once in 80,000 seeds
    torch.testing.assert_close(law.mean, (p * torch.arange(law.levels)).sum(-1))


@pytest.mark.parametrize("logit", [-1e4, -40.0, 21.0, 1e4])
def test_constant_pixels_have_a_finite_likelihood_and_gradient(logit: float) -> None:  # D13
    for dtype, digits in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        logits = torch.full((4,), logit, dtype=dtype, requires_grad=True)
        law = BernoulliPixels(logits, 1)
        for x in (torch.zeros(4, dtype=dtype), torch.ones(4, dtype=dtype)):
            log_p = law.log_prob(x)
            agrees = (logit > 0) == bool(x[0])
            expected = -4 * math.log1p(math.exp(-abs(logit))) - (0 if agrees else 4 * abs(logit))
            assert log_p.item() == pytest.approx(expected, rel=digits, abs=0)
            (gradient,) = torch.autograd.grad(log_p, logits)
            assert gradient.isfinite().all()


def test_half_precision_parameters_are_computed_with_in_float32() -> None:
    narrow = torch.full((1000, 2), 0.1, dtype=torch.bfloat16)
    x = torch.ones(1000, dtype=torch.float32)
    exact = math.log(torch.sigmoid(narrow[0, 0].double()).item()) * 1000
    assert BernoulliPixels(narrow[:, 0], 1).log_prob(x).item() == pytest.approx(exact, rel=1e-5)
    laws = [CategoricalPixels(narrow, 1), LogisticPixels(narrow, narrow, narrow, 1, 2)]
    assert {law.log_prob(x).dtype for law in laws} == {torch.float32}
    assert GaussianPixels(narrow[:, 0], narrow[:, 1], 1).log_prob(x).dtype == torch.float32


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, math.nan])
def test_a_value_that_is_no_level_is_refused(value: float) -> None:
    with pytest.raises(
        InputError, match=r"BernoulliPixels: x must hold whole levels 0..1; got .*; binarise"
    ):
        BernoulliPixels(torch.zeros(3), 1).log_prob(torch.tensor([0.0, 1.0, value]))


def test_data_of_another_shape_are_refused_and_not_broadcast() -> None:
    with pytest.raises(InputError, match=r"x must end in \(3,\); got \(5, 1\)"):
        BernoulliPixels(torch.zeros(5, 3), 1).log_prob(torch.zeros(5, 1))


def test_the_gaussian_is_the_product_of_normals_and_a_density() -> None:
    mean = torch.randn(5, 2, 3)
    scale = torch.rand(5, 2, 3) + 0.1
    x = torch.randn(5, 2, 3)
    law = GaussianPixels(mean, scale, event_dims=2)
    torch.testing.assert_close(law.log_prob(x), Normal(mean, scale).log_prob(x).sum((1, 2)))
    assert (law.nats, BernoulliPixels(mean, 2).nats) == ("density", "mass")


def test_a_uniform_mass_over_256_levels_costs_8_bits() -> None:
    law = CategoricalPixels(torch.zeros(10, 256), 1)
    bits, convention = bits_per_dim(law.log_prob(torch.arange(10.0)), 10, law.nats, 256)
    assert bits.item() == pytest.approx(8)
    assert "P the probability" in convention


def test_a_density_on_the_unit_interval_costs_8_bits_more_for_256_levels() -> None:  # D16
    log_p = torch.tensor([-3.0, 0.0, 5.0])
    bits, convention = bits_per_dim(log_p, 4, "density", 256)
    torch.testing.assert_close(bits, -log_p / (4 * math.log(2)) + 8)
    assert "/ 4 + log2 256" in convention
    assert "upper bound" in convention
    raw, convention = bits_per_dim(log_p, 4, "density")
    torch.testing.assert_close(raw, bits - 8)
    assert "unit" in convention


def test_dequantised_bits_bound_those_of_the_mass_from_above() -> None:
    levels = 8
    x = torch.full((200_000, 1), 3.0)
    density = Normal(0.5, 0.12)
    v = dequantise(x, levels)
    assert 3 / 8 <= v.min() < v.max() < 4 / 8
    log_p = density.log_prob(v).sum(-1)
    mass = density.cdf(torch.tensor(4 / 8)) - density.cdf(torch.tensor(3 / 8))
    # E[p(v)] / levels is the mass of the cell; E[log p(v)] lies below its logarithm
    error = 5 * (log_p.exp().std() / math.sqrt(len(log_p))).item() / levels
    assert log_p.exp().mean().item() / levels == pytest.approx(mass.item(), abs=error)
    bits = bits_per_dim(log_p, 1, "density", levels).value.mean()
    assert -math.log2(mass) < bits < -math.log2(mass) + 0.1


# Between networks and distributions


def output(likelihood: str, **options: int) -> Output:
    return Output(Pixels((2, 3), likelihood, **options))  # type: ignore[arg-type]


def marginals(kind: str, levels: int) -> tuple[Output, Tensor, Distribution]:
    out = output(kind, levels=levels)
    x = torch.randint(levels, (500, 2, 3)).double()
    x[:, 0, 0] = 1  # a constant pixel
    out.match_marginals(x)
    return out, x, out(torch.zeros(4, out.numbers, 2, 3))


def test_a_calibrated_bernoulli_has_the_clipped_mean() -> None:
    _, x, law = marginals("bernoulli", 2)
    torch.testing.assert_close(law.mean, x.mean(0).clamp(0.001, 0.999).expand(4, 2, 3))
    assert law.mean[0, 0, 0].item() == pytest.approx(0.999)


def test_a_calibrated_categorical_has_the_frequencies_of_every_pixel() -> None:
    _, x, law = marginals("categorical", 5)
    assert isinstance(law, CategoricalPixels)
    counts = torch.stack([(x == k).sum(0) for k in range(5)], -1)
    torch.testing.assert_close(law.log_table()[0].exp(), (counts + 1) / 505)


@pytest.mark.parametrize("components", [1, 3])
def test_a_calibrated_logistic_has_the_mean_and_the_spread_of_the_data(components: int) -> None:
    out = output("logistic", levels=256, components=components)
    x = (torch.randn(4000, 2, 3) * 12 + 100).round().clamp(0, 255)
    out.match_marginals(x)
    law = out(torch.zeros(out.numbers, 2, 3))
    assert isinstance(law, LogisticPixels)
    torch.testing.assert_close(law.mean, x.mean(0), atol=0.05, rtol=0)
    centres = law.means.mean(-1)
    torch.testing.assert_close(centres, x.mean(0))
    deviations = law.log_scale.exp() * math.pi / math.sqrt(3)  # of a logistic law
    torch.testing.assert_close(deviations, x.std(0, correction=0)[..., None].expand_as(deviations))
    assert components == 1 or (law.means.diff(dim=-1) > 1).all()


def test_a_calibrated_gaussian_is_in_the_unit_of_the_data() -> None:
    out = output("gaussian")
    x = torch.randn(500, 2, 3) * 40 + 7
    x[:, 0, 0] = 5
    out.match_marginals(x)
    law = out(torch.zeros(2, 2, 3))
    spread = x.std(0, correction=0)
    spread[0, 0] = 1
    expected = Independent(Normal(x.mean(0), 1.001 * spread), 2)
    torch.testing.assert_close(law.log_prob(x), expected.log_prob(x))
    torch.testing.assert_close(out.scaled(x).std(0, correction=0), (spread != 1).double())


@pytest.mark.parametrize("components", [1, 3])
def test_the_numbers_of_a_logistic_are_means_log_scales_and_weights_in_turn(
    components: int,
) -> None:
    out = output("logistic", levels=256, components=components)
    raw = torch.randn(4, out.numbers, 2, 3)
    law = out(raw)
    assert isinstance(law, LogisticPixels)
    means, log_scale, *weights = raw.movedim(1, -1).split(components, -1)
    torch.testing.assert_close(law.means, 255 * means)
    torch.testing.assert_close(law.log_scale.exp(), 255 * log_scale.exp())
    assert len(weights) == (components > 1)  # one component needs none
    assert not weights or torch.equal(law.weights, weights[0])


def test_a_constant_pixel_gets_a_narrow_distribution_and_not_a_point() -> None:
    out = output("logistic", levels=256)
    x = torch.full((9, 2, 3), 40.0)
    out.match_marginals(x)
    law = out(torch.zeros(out.numbers, 2, 3))
    assert law.log_table()[..., 40].exp().min() > 0.7
    assert law.log_table().isfinite().all()


def test_the_numbers_of_a_gaussian_are_in_deviations_of_the_data() -> None:
    out = output("gaussian")
    x = torch.randn(500, 2, 3) * 40 + 7
    raw = torch.randn(4, 2, 2, 3)
    out.match_marginals(x)
    law = out(raw)
    spread = x.std(0, correction=0)
    torch.testing.assert_close(law.mean, x.mean(0) + spread * raw[:, 0])
    torch.testing.assert_close(law.stddev, spread * (1e-3 + raw[:, 1].exp()))


def test_levels_reach_a_network_on_the_unit_interval() -> None:
    x = torch.tensor([0.0, 5.0, 10.0]).expand(2, 3)
    torch.testing.assert_close(
        output("categorical", levels=11).scaled(x)[0], torch.tensor([0.0, 0.5, 1.0])
    )


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"shape": ()}, "shape must be at least one side"),
        ({"shape": (0, 3)}, "shape must be at least one side"),
        (
            {"likelihood": "poisson"},
            "likelihood must be one of bernoulli, categorical, logistic, gaussian",
        ),
        ({"levels": 256}, "levels must be 2 for bernoulli"),
        ({"levels": 1, "likelihood": "logistic"}, "levels must be at least 2"),
        ({"components": 0}, "components must be at least 1"),
    ],
)
def test_pixels_that_break_a_rule_are_refused(
    options: dict[str, object], rule: str, unchecked: None
) -> None:
    with pytest.raises(InputError, match=rf"Pixels: {rule}.*; got {next(iter(options))}="):
        Pixels(**{"shape": (2, 3)} | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 28, 28), (5,), (3, 9, 9)])
def test_without_gradients_a_bernoulli_has_the_same_sum_by_few_logarithms(
    shape: tuple[int, ...],
) -> None:
    logits = 20 * torch.randn(3, 2, *shape)
    logits[0, 0] = 800.0  # the exponential underflows, and overflows for the other sign
    logits[0, 1] = -800.0
    x = torch.randint(2, (2, *shape)).double()
    law = BernoulliPixels(logits, len(shape))
    kept = logits.clone()
    with torch.no_grad():
        fast = law.log_prob(x)
        one = BernoulliPixels(logits[0, 0], len(shape)).log_prob(x)
    torch.testing.assert_close(
        one, BernoulliPixels(logits[0, 0], len(shape)).log_prob(x), rtol=1e-13, atol=1e-12
    )
    torch.testing.assert_close(fast, law.log_prob(x), rtol=1e-13, atol=1e-12)
    assert torch.equal(logits, kept)
    with torch.no_grad():
        zero = BernoulliPixels(torch.zeros(2, *shape, dtype=torch.float32), len(shape)).log_prob(x)
    torch.testing.assert_close(
        zero, torch.full((2,), -math.log(2) * math.prod(shape), dtype=torch.float32)
    )
