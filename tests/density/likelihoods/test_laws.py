"""Every row of the registry of pixel laws: normalised, calibrated, coded or refused."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import density
from density.images.mlp import MLPVAE
from density.likelihoods.bits import bits_per_dim
from density.likelihoods.head import Output, Pixels
from density.likelihoods.law import Scaling
from density.likelihoods.laws import LAWS
from univae.errors import InputError

SHAPE = (2, 3)
LEVELS = 5

every_law = pytest.mark.parametrize("name", LAWS)


def pixels_of(name: str, shape: tuple[int, ...] = SHAPE) -> Pixels:
    """Pixels with as many levels as the law allows, of the two that are tried."""
    levels = 2 if LAWS[name].levels_rule(LEVELS) else LEVELS
    return Pixels(shape, name, levels, components=2)


def rows_of(pixels: Pixels, count: int) -> Tensor:
    """Rows that the law fits: levels, the low ones more often, or real numbers."""
    if pixels.level_count is None:
        return 3 + 2 * torch.randn(count, *pixels.shape)
    spread = torch.rand(count, *pixels.shape).square()
    return (spread * pixels.levels).floor()


@every_law
def test_probabilities_of_one_pixel_sum_or_integrate_to_one(name: str) -> None:
    pixels = pixels_of(name, (1,))
    output = Output(pixels)
    law = output(torch.randn(4, 1, output.numbers, 1))
    if pixels.level_count is None:
        u = torch.linspace(-14, 14, 40_001)  # x = sinh u reaches 6e5, for tails of a power law
        x = u.sinh()
        total = torch.trapezoid(law.log_prob(x[:, None]).exp() * u.cosh(), u, dim=-1)
    else:
        x = torch.arange(float(pixels.level_count))
        total = law.log_prob(x[:, None]).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(4), atol=1e-9, rtol=0)


@every_law
def test_calibrated_the_law_has_the_mean_of_the_rows_and_scores_them_better(name: str) -> None:
    pixels = pixels_of(name)
    output = Output(pixels)
    x = rows_of(pixels, 4000)
    raw = torch.zeros(output.numbers, *SHAPE)
    before = output(raw).log_prob(x).mean()
    output.match_marginals(x)
    law = output(raw)
    # a mixture of two logistics is cut at the levels, which moves its mean a little
    torch.testing.assert_close(law.mean, x.mean(0), atol=0.15, rtol=0)
    assert law.log_prob(x).mean() > before


@every_law
def test_parameters_are_counted_once(name: str) -> None:
    pixels = pixels_of(name)
    row = LAWS[name]
    scaling = Scaling(torch.zeros(SHAPE), torch.full(SHAPE, row.spread(pixels)))
    marginal = row.marginal(rows_of(pixels, 50), pixels, scaling)
    assert marginal.shape == (row.parameter_count(pixels), *SHAPE) == Output(pixels).bias.shape


@every_law
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_log_probabilities_have_at_least_float32(name: str, dtype: torch.dtype) -> None:
    pixels = pixels_of(name)
    output = Output(pixels).to(dtype)
    x = rows_of(pixels, 7).to(dtype)
    log_p = output(torch.randn(7, output.numbers, *SHAPE, dtype=dtype)).log_prob(x)
    assert log_p.dtype == torch.promote_types(dtype, torch.float32)
    assert log_p.isfinite().all()


@every_law
def test_samples_are_rows_that_the_law_scores(name: str) -> None:
    pixels = pixels_of(name)
    output = Output(pixels)
    law = output(torch.randn(6, output.numbers, *SHAPE))
    x = law.sample((3,))
    assert x.shape == (3, 6, *SHAPE)
    assert law.log_prob(x).shape == (3, 6)
    assert law.log_prob(x).isfinite().all()


@every_law
def test_bits_are_of_levels_or_move_with_the_unit_of_the_data(name: str) -> None:
    pixels = pixels_of(name)
    output = Output(pixels)
    law = output(torch.zeros(output.numbers, *SHAPE))
    assert law.nats == pixels.nats == LAWS[name].nats
    log_p = law.log_prob(rows_of(pixels, 20))
    bits, convention = bits_per_dim(log_p, pixels.dims, pixels.nats)
    torch.testing.assert_close(bits * pixels.dims * math.log(2), -log_p)
    assert ("unit of the data" in convention) == (pixels.level_count is None)
    assert (bits >= 0).all() or pixels.level_count is None


@every_law
def test_a_law_refuses_data_of_other_values_and_says_what_it_needs(name: str) -> None:
    row = LAWS[name]
    accepted = [levels for levels in (2, LEVELS, None) if not row.refusal(levels, "data")]
    assert accepted
    for levels in (2, LEVELS, None):
        reason = row.refusal(levels, "data")
        assert not reason or ("needs" in reason and "data has" in reason and "choose" in reason)
    if row.level_count(pixels_of(name)) is not None:
        assert None not in accepted


@every_law
def test_data_are_coded_exactly_or_the_law_is_refused_by_name(name: str) -> None:
    pixels = pixels_of(name, (4,))
    model = MLPVAE(pixels, (2,), ((8,),))
    x = rows_of(pixels, 30).round().abs().clamp_max(pixels.levels - 1).numpy().astype(np.int64)
    if LAWS[name].uncodable:
        with pytest.raises(InputError, match="train with likelihood") as error:
            density.compress(model, x)
        assert name not in str(error.value).partition("train with")[2]
        return
    assert np.array_equal(density.decompress(model, density.compress(model, x)), x)


@every_law
def test_a_row_says_what_it_is_in_a_few_words(name: str) -> None:
    assert 0 < len(LAWS[name].summary) < 60
