"""Every row of LOSSES: its value at equilibrium, whose scores it reads, what it bounds."""

import pytest
import torch
from torch import Tensor

from gan.losses import LOSSES, critic_loss, generator_loss
from gan.metrics import exact_wasserstein
from univae.errors import InputError


@pytest.mark.parametrize("name", LOSSES)
def test_no_scores_of_equal_rows_beat_the_value_at_equilibrium_and_some_reach_it(name: str) -> None:
    value = LOSSES[name].value_at_equilibrium
    for scale in (0.1, 1.0, 10.0):
        scores = scale * torch.randn(50)
        assert critic_loss(name, scores, scores.flip(0)).item() >= value - 1e-12
    constants = torch.linspace(-1, 1, 201)
    losses = [critic_loss(name, c.expand(4), c.expand(4)).item() for c in constants]
    assert min(losses) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_the_critic_raises_real_scores_and_the_generator_its_own(name: str) -> None:
    real = torch.tensor([0.2, -0.3], requires_grad=True)
    fake = torch.tensor([0.1, 0.4], requires_grad=True)
    of_real, of_fake = torch.autograd.grad(critic_loss(name, real, fake), (real, fake))
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    gradient_of_real, gradient_of_fake = torch.autograd.grad(
        generator_loss(name, real, fake), (real, fake), allow_unused=True
    )
    assert (gradient_of_fake < 0).all()
    assert (gradient_of_real is not None) == LOSSES[name].pairs


@pytest.mark.parametrize("name", LOSSES)
def test_pairs_must_be_as_many_and_other_losses_take_any_numbers(name: str) -> None:
    real = torch.randn(3)
    fake = torch.randn(5)
    for loss in (critic_loss, generator_loss):
        if LOSSES[name].pairs:
            with pytest.raises(InputError, match=f"loss {name} pairs each real row"):
                loss(name, real, fake)
        else:
            assert loss(name, real, fake).isfinite()


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.bounds_w1])
def test_minus_the_loss_of_a_1_lipschitz_critic_bounds_w1_from_below(name: str) -> None:
    x = torch.randn(30, 2)
    y = 0.3 * torch.randn(30, 2) + torch.tensor([2.0, 0.0])

    def score(x: Tensor) -> Tensor:
        return -x[:, 0]

    bound = -critic_loss(name, score(x), score(y)).item()
    assert 1 < bound <= exact_wasserstein(x, y)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_falls_without_end_exactly_where_it_needs_a_bounded_critic(name: str) -> None:
    scores = torch.full((4,), 1e6)
    falls = critic_loss(name, scores, -scores).item() < -1e5
    assert falls == LOSSES[name].needs_bounded_critic
