"""Consistency: 0 for changes that the critic ignores, and a closed form for others."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan import WGAN, Penalties, Recipe, build
from gan.augment import augment
from gan.combinations import Combination, refuse_combination
from gan.critic_loss import CriticLoss
from gan.normalization.gradient import normalize_gradient
from gan.penalty_terms import consistency_penalty
from univae.errors import InputError


def players() -> tuple[nn.Module, nn.Module]:
    generator = build({"network": "ConvGenerator", "shape": (1, 8, 8), "latent": 4, "width": 4})
    return generator, build({"network": "ConvCritic", "shape": (1, 8, 8), "width": 4})


def loss_of(critic: nn.Module, recipe: Recipe) -> tuple[Tensor, dict[str, Tensor]]:
    drawn = torch.Generator().manual_seed(3)
    real, fake = (torch.rand(6, 1, 8, 8, generator=drawn) for _ in range(2))
    return CriticLoss(critic, recipe)(
        real, fake, None, regularized=True, noise=torch.Generator().manual_seed(4)
    )


def test_a_linear_critic_pays_the_square_of_what_a_shift_does() -> None:
    w = torch.randn(12)
    shift = torch.randn(12)
    x = torch.randn(5, 12)

    def f(x: Tensor, labels: Tensor | None = None) -> Tensor:
        return x @ w

    actual = consistency_penalty(f, x, lambda x: x + shift)
    torch.testing.assert_close(actual, (w @ shift) ** 2)
    assert consistency_penalty(f, x, lambda x: x) < 1e-24


def test_the_identity_and_a_critic_that_sees_no_shift_cost_nothing() -> None:
    _, critic = players()
    x = torch.rand(6, 1, 8, 8)
    assert consistency_penalty(critic, x, lambda x: x) < 1e-24

    def total(x: Tensor, labels: Tensor | None = None) -> Tensor:  # no pixel leaves the image below
        return x.flatten(1).sum(1)

    inside = nn.functional.pad(torch.rand(6, 1, 4, 4), (2, 2, 2, 2))
    moved = augment(inside, ("translation",), torch.Generator().manual_seed(0))
    assert not torch.equal(moved, inside)
    assert consistency_penalty(total, inside, lambda x: moved) < 1e-24
    assert consistency_penalty(critic, inside, lambda x: moved) > 0


@pytest.mark.parametrize("normalization", ["gn", "none"])
def test_the_loss_is_the_plain_one_plus_the_weighted_penalty_of_the_score_it_sees(
    normalization: Any,
) -> None:
    _, critic = players()
    plain = Recipe(normalization=normalization)
    consistent = Recipe(normalization=normalization, penalties=Penalties(cr=5.0))
    base, _ = loss_of(critic, plain)
    loss, logged = loss_of(critic, consistent)
    real = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    moved = augment(real, ("translation",), torch.Generator().manual_seed(4))
    score = (
        critic
        if normalization == "none"
        else lambda x: normalize_gradient(critic, x, normalization)
    )
    expected = (score(moved) - score(real)).square().mean()
    torch.testing.assert_close(logged["consistency"], expected.detach())
    torch.testing.assert_close(loss, base + 5 * expected)
    gradients = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    by_hand = torch.autograd.grad(base + 5 * expected, list(critic.parameters()), allow_unused=True)
    for one, other in zip(gradients, by_hand, strict=True):  # both have the norm's own gradient
        torch.testing.assert_close(one, other)


def test_a_step_of_training_takes_it_and_logs_it() -> None:
    trainer = WGAN(*players(), Recipe(penalties=Penalties(cr=5.0)))
    logged = trainer.step(torch.rand(6, 1, 8, 8))
    assert logged["consistency"] >= 0
    assert "consistency" not in WGAN(*players(), Recipe()).step(torch.rand(6, 1, 8, 8))


def test_consistency_bounds_no_critic_and_goes_with_any_constraint() -> None:
    refuse_combination(Combination("hinge", "gn", Penalties(cr=5.0)))
    refuse_combination(Combination("wasserstein", "none", Penalties(cr=5.0, clip=0.01)))
    with pytest.raises(InputError, match="its supremum is infinite"):
        refuse_combination(Combination("wasserstein", "none", Penalties(cr=5.0)))
