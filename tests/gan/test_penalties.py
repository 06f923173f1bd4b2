"""Losses and penalties against closed forms; what makes no sense is refused with its reason."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.combinations import Combination, refuse_combination
from gan.losses import critic_loss, generator_loss
from gan.normalization.gradient import normalize_gradient
from gan.normalization.operator_norms import operator_norm
from gan.normalization.spectral import is_spectral, spectral_normalize
from gan.penalties import Penalties
from gan.penalty_terms import (
    clip_weights,
    divergence_penalty,
    gradient_penalty,
    zero_centred,
)
from univae.errors import InputError


@pytest.mark.parametrize("norm", [0.5, 3.0])
def test_every_penalty_of_a_linear_critic_has_its_closed_form(norm: float) -> None:
    w = torch.randn(3, 4, 4)
    w *= norm / w.norm()
    real = torch.randn(6, 3, 4, 4)
    fake = torch.randn(6, 3, 4, 4)

    def f(x: Tensor) -> Tensor:
        return (x * w).flatten(1).sum(1) + 7

    assert gradient_penalty(f, real, fake).item() == pytest.approx((norm - 1) ** 2)
    assert gradient_penalty(f, real, fake, one_sided=True).item() == pytest.approx(
        max(norm - 1, 0) ** 2
    )
    assert zero_centred(f, real).item() == pytest.approx(norm**2 / 2)
    assert divergence_penalty(f, real, fake[:3]).item() == pytest.approx(norm**6)
    assert divergence_penalty(f, real, fake, p=3.0).item() == pytest.approx(norm**3)


def test_penalties_look_where_they_say() -> None:
    real = torch.full((2000, 1), 2.0)
    fake = torch.full((2000, 1), 4.0)

    def f(x: Tensor) -> Tensor:
        return x.square().sum(1) / 2  # gradient x

    assert zero_centred(f, real).item() == 2
    assert divergence_penalty(f, real, fake, p=2.0).item() == (4 + 16) / 2
    noise = torch.Generator().manual_seed(0)
    # x uniform in (2, 4): E (x - 1)^2 = 13 / 3
    actual = gradient_penalty(f, real, fake, generator=noise).item()
    # the variance of (x - 1)^2 is 242 / 5 - 169 / 9 < 29.7
    assert abs(actual - 13 / 3) < 5 * math.sqrt(5.42 / 2000)
    again = gradient_penalty(f, real, fake, generator=torch.Generator().manual_seed(0)).item()
    assert actual == again


def test_penalties_reach_the_parameters_and_their_gradient_is_finite_at_zero() -> None:
    critic = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))
    dead = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.zeros_(dead[0].weight)
    x = torch.randn(5, 3)
    y = torch.randn(5, 3)
    for penalty in (
        lambda f: gradient_penalty(f, x, y),
        lambda f: gradient_penalty(f, x, y, one_sided=True),
        lambda f: zero_centred(f, x),
        lambda f: divergence_penalty(f, x, y),
    ):
        dead.zero_grad()
        penalty(dead).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in dead.parameters())
    zero_centred(critic, x).backward()
    assert critic[0].weight.grad.abs().sum() > 0


def test_losses_are_their_formulas() -> None:
    x = torch.randn(9)
    y = torch.randn(9)
    log = F.logsigmoid
    expected = {
        "wasserstein": (y.mean() - x.mean(), -y.mean()),
        "hinge": (
            torch.maximum(1 - x, torch.zeros(9)).mean()
            + torch.maximum(1 + y, torch.zeros(9)).mean(),
            -y.mean(),
        ),
        "non-saturating": (-log(x).mean() - log(-y).mean(), -log(y).mean()),
        "least-squares": (
            0.5 * (x - 1).pow(2).mean() + 0.5 * y.pow(2).mean(),
            0.5 * (y - 1).pow(2).mean(),
        ),
        "relativistic": (-log(x - y).mean(), -log(y - x).mean()),
    }
    for name, (of_critic, of_generator) in expected.items():
        torch.testing.assert_close(critic_loss(name, x, y), of_critic)
        torch.testing.assert_close(generator_loss(name, x, y), of_generator)


def test_the_hinge_of_a_normalised_score_is_wasserstein_plus_two() -> None:
    critic = nn.Sequential(nn.Linear(3, 16), nn.LeakyReLU(0.1), nn.Linear(16, 1))
    x = torch.randn(20, 3)
    y = torch.randn(20, 3)
    gradients = []
    for name in ("hinge", "wasserstein"):
        real, fake = normalize_gradient(critic, torch.cat((x, y))).chunk(2)
        loss = critic_loss(name, real, fake)
        gradients.append(
            [loss - 2 * (name == "hinge"), *torch.autograd.grad(loss, list(critic.parameters()))]
        )
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-14)
    bce = critic_loss("non-saturating", real, fake)
    assert bce.item() > 2 * math.log1p(math.exp(-1))


@pytest.mark.parametrize("way", [(4, 2, 1), (3, 1, 1), (5, 2, 0)])
def test_the_operator_norm_of_a_convolution_is_that_of_its_matrix(
    way: tuple[int, int, int],
) -> None:
    kernel, stride, padding = way
    conv = nn.Conv2d(2, 3, kernel, stride, padding)
    basis = torch.eye(2 * 7 * 7).view(-1, 2, 7, 7)
    matrix = F.conv2d(basis, conv.weight, None, stride, padding).flatten(1).T
    exact = torch.linalg.matrix_norm(matrix, 2).item()
    assert operator_norm(conv, (2, 7, 7)) == pytest.approx(exact, rel=1e-8)
    reshaped = torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item()
    assert exact > 1.05 * reshaped  # the usual spectral norm is not a bound
    linear = nn.Linear(5, 4)
    assert operator_norm(linear, (5,)) == pytest.approx(
        torch.linalg.svdvals(linear.weight)[0].item()
    )
    assert (
        operator_norm(
            conv.requires_grad_(False).apply(lambda m: nn.init.zeros_(m.weight)), (2, 7, 7)
        )
        == 0
    )


def test_exact_spectral_norm_makes_each_layer_non_expansive_and_the_usual_one_does_not() -> None:
    def critic() -> nn.Sequential:
        torch.manual_seed(3)
        body = [
            nn.Conv2d(2, 8, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(8, 8, 3, 1, 1),
            nn.LeakyReLU(0.1),
        ]
        return nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 49, 1))

    x = torch.randn(2, 2, 14, 14)
    usual = spectral_normalize(critic())
    exact = spectral_normalize(critic(), exact_on=x)
    assert is_spectral(usual)
    assert not is_spectral(critic())
    for _ in range(40):
        usual(x), exact(x)
    shapes = {0: (2, 14, 14), 2: (8, 7, 7), 5: (392,)}
    for place, shape in shapes.items():
        assert operator_norm(exact.eval()[place], shape) == pytest.approx(1, abs=1e-3)
        ratio = operator_norm(usual.eval()[place], shape)
        assert ratio == pytest.approx(1, abs=1e-3) if place == 5 else 1.2 < ratio < 1.8
    with pytest.raises(InputError, match="reparametrised weights already"):
        spectral_normalize(usual)


def test_a_spectral_critic_runs_twice_before_one_backward_pass() -> None:
    for exact_on in (None, torch.randn(2, 2, 8, 8)):
        critic = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 1))
        spectral_normalize(critic, exact_on)
        x = torch.randn(3, 2, 8, 8)
        y = torch.randn(3, 2, 8, 8)
        (critic(x).mean() - critic(y).mean() + gradient_penalty(critic, x, y)).backward()
        assert critic[0].parametrizations.weight.original.grad.isfinite().all()


def test_clipping_bounds_every_weight() -> None:
    critic = nn.Linear(50, 50)
    clip_weights(critic, 0.01)
    assert max(p.abs().max() for p in critic.parameters()) == 0.01


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("hinge", "gn", Penalties(gp=10.0), False),
            "gp with gn: the normalised score has a different gradient",
        ),
        (("hinge", "gran", Penalties(clip=0.1), False), "clip with gran"),
        (("wasserstein", "none", Penalties(), False), "its supremum is infinite; use gn"),
        (("hinge", "none", Penalties(div=2.0), False), "div with hinge"),
        (
            ("wasserstein", "none", Penalties(clip=0.1, r1=1.0), False),
            "clip with another constraint",
        ),
        (("wasserstein", "none", Penalties(gp=10.0, lp=10.0), False), "gp with lp"),
        (("relativistic", "gn", Penalties(), False, 2), "relativistic with generator_ratio > 1"),
    ],
)
def test_a_combination_without_sense_is_refused_with_the_reason(given: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refuse_combination(Combination(*given))


@pytest.mark.parametrize(
    "given",
    [
        ("wasserstein", "none", Penalties(), True),
        ("wasserstein", "none", Penalties(div=2.0), False),
        ("relativistic", "gn", Penalties(r1=1.0, r2=1.0), True),
        ("non-saturating", "none", Penalties(), False),
        ("hinge", "none", Penalties(gp=10.0), True),
    ],
)
def test_combinations_with_sense_pass(given: tuple[Any, ...]) -> None:
    refuse_combination(Combination(*given))


def test_penalties_and_losses_out_of_range_are_refused(unchecked: None) -> None:
    with pytest.raises(InputError, match="gp must be 0"):
        Penalties(gp=-1.0)
    with pytest.raises(InputError, match="loss must be one of wasserstein, hinge"):
        critic_loss("mse", torch.zeros(2), torch.zeros(2))
    with pytest.raises(InputError, match="pairs each real row"):
        critic_loss("relativistic", torch.zeros(2), torch.zeros(3))
    with pytest.raises(InputError, match="as many generated rows as real"):
        gradient_penalty(lambda x: x.sum(1), torch.zeros(2, 1), torch.zeros(3, 1))
