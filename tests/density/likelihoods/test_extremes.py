"""Pixels far off, scales near 0 and beyond, values of every dtype: finite, and the right nats."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from density.likelihoods.distributions import (
    BernoulliPixels,
    CategoricalPixels,
    GaussianPixels,
    LogisticPixels,
)
from density.likelihoods.head import Output, Pixels
from density.likelihoods.law import LARGEST_LOG_SCALE, SMALLEST_SCALE
from density.likelihoods.laws import LAWS, SMALLEST_LEVEL_SCALE
from density.likelihoods.student import DEGREES, StudentPixels

LEVELS = 256

every_law = pytest.mark.parametrize("name", LAWS)


def with_gradients(law: object, x: Tensor, *parameters: Tensor) -> tuple[float, list[Tensor]]:
    log_p = law.log_prob(x)  # type: ignore[attr-defined]
    gradients = torch.autograd.grad(log_p.sum(), parameters)
    return log_p.sum().item(), list(gradients)


@pytest.mark.parametrize("log_scale", [-300.0, -85.0, -20.0, 0.0, 20.0, 100.0, 300.0])
@pytest.mark.parametrize("x", [0, 3, 128, 255])
@pytest.mark.parametrize("components", [1, 2])
def test_a_logistic_of_any_scale_is_finite_in_float32_and_so_are_its_gradients(
    log_scale: float, x: int, components: int
) -> None:
    shape = (1, components)
    means = torch.full(shape, 3.0, dtype=torch.float32, requires_grad=True)
    scales = torch.full(shape, log_scale, dtype=torch.float32, requires_grad=True)
    weights = torch.zeros(shape, dtype=torch.float32, requires_grad=True)
    law = LogisticPixels(means, scales, weights, 1, LEVELS)
    values = torch.tensor([float(x)], dtype=torch.float32)
    log_p, gradients = with_gradients(law, values, means, scales, weights)
    assert math.isfinite(log_p)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert law.mean.isfinite().all()


@pytest.mark.parametrize("log_scale", [-25.0, -5.0, 0.0, 10.0])
@pytest.mark.parametrize("x", [0, 90, 128, 255])
def test_a_pixel_far_off_costs_its_distance_over_the_scale(log_scale: float, x: int) -> None:
    r"""By the tails: log(sigma(b) - sigma(a)) in float64, without a difference of sigmas."""
    scale = math.exp(log_scale)
    mean = 100.25
    law = LogisticPixels(
        torch.full((1, 1), mean).float(),
        torch.full((1, 1), log_scale).float(),
        torch.zeros(1, 1).float(),
        1,
        LEVELS,
    )
    below = (x - 0.5 - mean) / scale
    above = (x + 0.5 - mean) / scale
    if x == 0:
        truth = -math.log1p(math.exp(-above)) if above > -700 else above
    elif x == LEVELS - 1:
        truth = -math.log1p(math.exp(below)) if below < 700 else -below
    else:
        near, far = sorted((abs(below), abs(above)))
        inner = math.log(-math.expm1(near - far)) - math.log1p(math.exp(-near))
        truth = -near + inner - math.log1p(math.exp(-far))
    log_p = law.log_prob(torch.tensor([float(x)], dtype=torch.float32)).item()
    assert log_p == pytest.approx(truth, rel=2e-6, abs=1e-6)


def test_no_learned_scale_lets_a_level_cost_more_than_the_floor_does() -> None:
    pixels = Pixels((1,), "logistic", LEVELS)
    output = Output(pixels).float()
    raw = torch.tensor([[100 / 255], [-50.0]], dtype=torch.float32, requires_grad=True)  # mean 100
    law = output(raw)
    log_p, (gradient,) = with_gradients(law, torch.tensor([255.0], dtype=torch.float32), raw)
    assert log_p == pytest.approx(-154.5 / SMALLEST_LEVEL_SCALE, rel=1e-5)
    assert gradient.isfinite().all()
    own = law.log_prob(torch.tensor([100.0], dtype=torch.float32)).item()
    assert -1e-20 < own <= 0


@pytest.mark.parametrize("distance", [0.0, 1e-3, 1.0, 1e6, 1e19, 1e25, -1e30])
def test_an_outlier_costs_a_student_the_logarithm_of_its_distance(distance: float) -> None:
    location = torch.zeros(1, dtype=torch.float32, requires_grad=True)
    scale = torch.full((1,), 0.5, dtype=torch.float32, requires_grad=True)
    law = StudentPixels(location, scale, 1)
    x = torch.tensor([distance], dtype=torch.float32)
    log_p, gradients = with_gradients(law, x, location, scale)
    constant = math.lgamma((DEGREES + 1) / 2) - math.lgamma(DEGREES / 2)
    constant -= math.log(DEGREES * math.pi) / 2 + math.log(0.5)
    square = (distance / 0.5) ** 2 / DEGREES
    truth = constant - (DEGREES + 1) / 2 * math.log1p(square)
    assert log_p == pytest.approx(truth, rel=1e-6)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("unit", [1e-30, 1e-21, 1.0, 1e21, 1e30])
def test_a_gaussian_in_any_unit_costs_half_the_square_and_the_logarithm_of_the_unit(
    unit: float,
) -> None:
    mean = torch.zeros(1, dtype=torch.float32, requires_grad=True)
    scale = torch.full((1,), unit, dtype=torch.float32, requires_grad=True)
    law = GaussianPixels(mean, scale, 1)
    x = torch.tensor([3 * unit], dtype=torch.float32)
    log_p, gradients = with_gradients(law, x, mean, scale)
    assert log_p == pytest.approx(-4.5 - math.log(unit) - math.log(2 * math.pi) / 2, rel=1e-6)
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_law
@pytest.mark.parametrize("size", [-1e4, -100.0, 100.0, 1e4])
def test_parameters_of_any_size_give_finite_nats_and_gradients(name: str, size: float) -> None:
    row = LAWS[name]
    levels = 2 if row.levels_rule(LEVELS) else LEVELS
    pixels = Pixels((5,), name, levels, components=2)
    output = Output(pixels).float()
    for sign in (1.0, -1.0):
        raw = torch.full((output.numbers, 5), size, dtype=torch.float32)
        raw[::2] *= sign
        raw.requires_grad_()
        x = torch.tensor([0.0, 1.0, 0.0, 1.0, levels - 1], dtype=torch.float32)
        log_p, (gradient,) = with_gradients(output(raw), x, raw)
        assert math.isfinite(log_p)
        assert gradient.isfinite().all()


def test_learned_scales_of_real_numbers_stay_between_their_floor_and_ceiling() -> None:
    for name in ("gaussian", "student"):
        output = Output(Pixels((1,), name)).float()
        scales = []
        for log_scale in (-1e3, 1e3):
            law = output(torch.tensor([[0.0], [log_scale]], dtype=torch.float32))
            scales.append(law.base_dist.scale.item())
        floor_and_ceiling = [SMALLEST_SCALE, math.exp(LARGEST_LOG_SCALE)]
        assert scales == pytest.approx(floor_and_ceiling, rel=1e-5)


@every_law
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int64, torch.bfloat16, torch.float16, torch.float32, torch.bool]
)
def test_values_cost_the_same_in_every_dtype_that_holds_them(name: str, dtype: torch.dtype) -> None:
    row = LAWS[name]
    levels = 2 if row.levels_rule(LEVELS) or dtype == torch.bool else LEVELS
    pixels = Pixels((7,), name, levels, components=2)
    output = Output(pixels)
    raw = torch.randn(output.numbers, 7, requires_grad=True)
    x = torch.randint(levels, (4, 7))
    truth = output(raw).log_prob(x.double())
    torch.testing.assert_close(output(raw).log_prob(x.to(dtype)), truth)
    with torch.no_grad():
        torch.testing.assert_close(output(raw).log_prob(x.to(dtype)), truth.detach())


def test_whole_numbers_of_a_law_cost_the_same_in_uint8() -> None:
    x = torch.tensor([[0, 1, 1]])
    logits = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    for law in (
        BernoulliPixels(logits, 1),
        CategoricalPixels(torch.stack((-logits, logits), -1), 1),
        LogisticPixels(logits[:, None], logits[:, None], logits[:, None], 1, 2),
    ):
        torch.testing.assert_close(law.log_prob(x.to(torch.uint8)), law.log_prob(x.double()))


@pytest.mark.parametrize("law", [GaussianPixels, StudentPixels])
def test_parameters_that_are_not_finite_give_a_value_that_is_not(law: Callable[..., Any]) -> None:
    mean = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [1.0, 0.0]])
    log_p = law(mean, torch.ones(3, 2), 1).log_prob(torch.zeros(2))
    assert log_p.isfinite().tolist() == [False, False, True]
