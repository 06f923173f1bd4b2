"""Autoregressive pixels in waves: the numbers of one pass, exact round trips, digits of levels."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import density
from density.coding.ans import LEAST, TOTAL
from density.coding.container import unpack
from density.coding.exact import exactly, prepared
from density.coding.level_digits import LogisticDigits, has_digits, level_digits
from density.coding.pixel_codes import pixel_code
from density.coding.waves import WaveCode
from density.images.mlp import MLPVAE
from density.likelihoods.autoregressive import CausalPixels
from density.likelihoods.distributions import LevelPixels
from density.likelihoods.head import Output, Pixels
from univae.errors import InputError

KINDS = {
    "binary": Pixels((1, 6, 7), reach=2, context=5),
    "colour": Pixels((3, 4, 5), "logistic", levels=256, components=2, reach=1, context=4),
    "one component": Pixels((1, 4, 4), "logistic", levels=200, reach=2, context=4),
    "levels": Pixels((2, 4, 4), "categorical", levels=5, reach=1, context=3),
    "three digits": Pixels((1, 3, 3), "logistic", levels=1000, components=2, reach=1, context=3),
    "narrow": Pixels((1, 5, 2), reach=3, context=4),
    "one row": Pixels((1, 1, 6), reach=2, context=4),
    "one pixel": Pixels((2, 1, 1), "logistic", levels=256, reach=1, context=2),
}


def perturbed(pixels: Pixels) -> MLPVAE:
    """Return a model of random weights, large enough that neighbours matter."""
    torch.manual_seed(0)
    model = MLPVAE(pixels, (2,), ((8,),))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def images(pixels: Pixels, count: int, seed: int = 0) -> np.ndarray:
    """Return noise in which every third value is the lowest or the highest level."""
    generator = np.random.default_rng(seed)
    x = generator.integers(pixels.levels, size=(count, *pixels.shape))
    ends = generator.random(x.shape)
    x[ends < 1 / 6] = 0
    x[ends > 5 / 6] = pixels.levels - 1
    return x


def wave_code(model: nn.Module, pixels: Pixels, tile: int) -> WaveCode:
    code = pixel_code(prepared(model), pixels.shape, tile, waves=True)
    assert isinstance(code, WaveCode)
    return code


def wave_numbers(code: WaveCode, joint: CausalPixels, x: np.ndarray, *, at_once: bool) -> Tensor:
    """Return the numbers of all pixels, with all of x set at once or wave by wave."""
    network = code.network
    network.start(joint)
    if at_once:
        network.images[...] = x
    count = len(joint.net.last[-1].bias)
    result = np.empty((count, x.size))
    for step in network.steps:
        result[:, network.order[step.rows]] = network.numbers(step)
        step.pixels[...] = x.ravel()[network.order[step.rows]].reshape(step.pixels.shape)
    return torch.from_numpy(result).unflatten(1, x.shape)


@pytest.mark.parametrize("name", KINDS)
def test_the_numbers_of_waves_are_those_of_one_pass(name: str) -> None:
    pixels = KINDS[name]
    code = wave_code(perturbed(pixels), pixels, 3)
    x = images(pixels, 3)
    with exactly():
        joint = code.model.likelihood(torch.randn(3, 2, dtype=torch.float64))
        assert isinstance(joint, CausalPixels)
        head = joint.head
        assert isinstance(head, Output)
        context = joint.net.context(head.scaled(torch.from_numpy(x)))
        expected = joint.net.numbers(joint.features + context) + head.bias
        numbers = wave_numbers(code, joint, x, at_once=True)
        torch.testing.assert_close(numbers.movedim(0, 1), expected, rtol=1e-12, atol=1e-12)
        assert numbers.equal(wave_numbers(code, joint, x, at_once=False))


# Besides those of a tile of four, in which every kind is quick.
QUICK = {(1, "narrow"), (1, "one row"), (3, "one row"), (3, "one pixel")}


@pytest.mark.parametrize(
    ("tile", "particles", "name"),
    [
        pytest.param(
            tile,
            particles,
            name,
            marks=[] if tile == 4 or (tile, name) in QUICK else [pytest.mark.slow],
        )
        for (tile, particles), name in itertools.product(((1, 1), (4, 1), (3, 3)), KINDS)
    ],
)
def test_images_come_back_also_from_a_last_tile_that_is_not_full(
    tile: int, particles: int, name: str
) -> None:
    pixels = KINDS[name]
    model = perturbed(pixels)
    x = images(pixels, 53)
    content = density.compress(model, x, tile=tile, particles=particles, block=40)
    header, _ = unpack(content)
    assert header.coding.waves
    assert any(block.plain < block.count for block in header.blocks)
    assert np.array_equal(density.decompress(model, content), x)
    assert np.array_equal(density.decompress(model, content, block=1), x[40:])


@pytest.mark.parametrize("name", ["binary", "colour", "levels"])
def test_waves_cost_the_bits_of_raster_order(name: str) -> None:
    pixels = KINDS[name]
    model = perturbed(pixels)
    x = images(pixels, 4)
    z = torch.randn(4, 2, dtype=torch.float64)
    with exactly():
        costs = []
        for waves in (False, True):
            code = pixel_code(prepared(model), pixels.shape, 4, waves=waves)
            costs.append(code.intervals(z, torch.from_numpy(x).double(), 4).log_mass(4))
    # a table has 24 bits, and so a relative error of 2^-24 / p; few of these p are below 1e-4
    np.testing.assert_allclose(costs[1], costs[0], rtol=1e-3)


@pytest.mark.parametrize("name", ["binary", "colour"])
def test_the_number_of_threads_changes_no_byte(name: str) -> None:
    model = perturbed(KINDS[name])
    x = images(KINDS[name], 40)
    threads = torch.get_num_threads()
    contents = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            contents.append(density.compress(model, x, tile=4))
    finally:
        torch.set_num_threads(threads)
    assert contents[0] == contents[1]


def test_a_model_without_autoregressive_pixels_refuses_a_file_in_waves() -> None:
    pixels = Pixels((1, 3, 3))
    with pytest.raises(InputError, match="declares autoregressive pixels, and the model has none"):
        pixel_code(prepared(MLPVAE(pixels, (2,), ((8,),))), pixels.shape, 1, waves=True)


# Levels as digits.


def head_of(likelihood: str, levels: int, components: int = 1) -> Output:
    return Output(Pixels((1, 1, 1), likelihood, levels, components, reach=1)).double()


def masses(head: Output, numbers: Tensor) -> np.ndarray:
    """Return the probabilities (N, levels) of the digits of every level."""
    law = level_digits(head)
    parameters = numbers.numpy().copy()
    result = np.empty((parameters.shape[1], head.pixels.levels))
    with np.errstate(over="ignore"):
        law.prepare(parameters)
        for level in range(head.pixels.levels):
            mass = np.ones(parameters.shape[1])
            for digit in range(law.digits):
                upper = level // law.radix ** (law.digits - digit - 1)
                prefix, value = divmod(upper, law.radix)
                prefixes = np.full(parameters.shape[1], prefix)
                starts = law.starts(parameters, digit, prefixes)
                mass *= (starts[:, value + 1] - starts[:, value]) / TOTAL
            result[:, level] = mass
    return result


@pytest.mark.parametrize(
    ("likelihood", "levels", "components"),
    [
        ("bernoulli", 2, 1),
        ("categorical", 2, 1),
        ("categorical", 40, 1),
        ("logistic", 2, 1),
        ("logistic", 16, 2),
        ("logistic", 17, 1),
        ("logistic", 256, 3),
        ("logistic", 300, 2),
    ],
)
def test_digits_have_the_probabilities_of_the_law(
    likelihood: str, levels: int, components: int
) -> None:
    torch.manual_seed(0)
    head = head_of(likelihood, levels, components)
    numbers = torch.randn(head.pixels.law.parameter_count(head.pixels), 12)
    distribution = head.distribution(numbers.T[..., None, None, None])
    assert isinstance(distribution, LevelPixels)
    expected = distribution.log_table().detach().exp().flatten(0, 3).numpy()
    rounding = 4 * LEAST * min(levels, 16) / TOTAL
    if likelihood == "categorical":
        rounding = 2 * LEAST * levels / TOTAL
    np.testing.assert_allclose(masses(head, numbers), expected, atol=rounding, rtol=2e-3)


@pytest.mark.parametrize("levels", [2, 16, 17, 256, 1000, 65536])
@pytest.mark.parametrize("components", [1, 2])
def test_no_digit_is_impossible_however_far_the_mean(levels: int, components: int) -> None:
    head = head_of("logistic", levels, components)
    law = LogisticDigits(head)
    assert law.radix <= 16
    assert law.radix**law.digits >= levels > law.radix ** (law.digits - 1)
    values = [-1e300, -1e3, -0.1, 0.5, 1.0, 1e5, 1e300]
    kinds = itertools.product(values, [-1e3, -60.0, -5.0, 0.0, 20.0, 1e3])
    means, log_scales = np.array(list(kinds)).T
    rows = [means, means[::-1], log_scales, log_scales, 0 * means, 500 * np.sign(means)]
    parameters = np.stack(rows if components > 1 else [means, log_scales])
    prefixes = np.random.default_rng(0).integers(levels, size=(20, len(means)))
    with np.errstate(over="ignore"):
        law.prepare(parameters)
        for digit, level in itertools.product(range(law.digits), prefixes):
            starts = law.starts(parameters, digit, level // law.radix ** (law.digits - digit))
            sizes = np.diff(starts)
            assert (starts[:, 0] == 0).all()
            assert (starts[:, -1] == TOTAL).all()
            assert (sizes >= 1).all()
            assert (sizes == np.floor(sizes)).all()


def test_a_level_far_from_the_mean_costs_the_smallest_frequency_and_its_later_digits() -> None:
    """Given a range in the tail, the levels in it keep their ratios e^(1 / scale)."""
    head = head_of("logistic", 256)
    scale = 2.0
    numbers = torch.tensor([[200 / 255], [math.log(scale / 255)]])
    p = masses(head, numbers)[0, 16:32]
    np.testing.assert_allclose(p[1:] / p[:-1], math.exp(1 / scale), rtol=1e-2)
    assert p.sum() == pytest.approx(LEAST / TOTAL, rel=1e-6)


def test_laws_in_another_unit_for_each_pixel_have_no_digits() -> None:
    head = Output(Pixels((1, 2, 2), "logistic", 256, reach=1))
    assert has_digits(head)
    head.spread[0, 0, 0] = 3.0
    assert not has_digits(head)
