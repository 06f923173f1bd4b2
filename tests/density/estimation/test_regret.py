"""Likelihood regret against closed forms: what an encoder loses is what refinement gains."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

import density
from univae.errors import InputError


class Line:
    """z ~ N(0, 1), x | z ~ N(z, 1/4), whose posterior is N(0.8 x, 0.2).

    The encoder is off by ``shift``.
    """

    def __init__(self, shift: float, factor: float = 1.0) -> None:
        self.shift = shift
        self.factor = factor

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(
            Normal(0.8 * x + self.shift, torch.full_like(x, self.factor * math.sqrt(0.2))), 1
        )

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, torch.full_like(z, 0.5)), 1)


@pytest.mark.parametrize(("shift", "factor"), [(0.5, 1.0), (-0.3, 1.5), (0.0, 0.5)])
def test_the_regret_is_the_divergence_of_the_encoder_from_the_posterior(
    shift: float, factor: float
) -> None:
    torch.manual_seed(2)
    model = Line(shift, factor)
    x = torch.randn(6, 1)
    regret = density.likelihood_regret(model, x, steps=200, particles=128, draws=4000)
    expected = kl_divergence(model.posterior(x), Line(0.0).posterior(x))
    torch.testing.assert_close(regret, expected, atol=0.03, rtol=0.1)


def test_an_exact_encoder_regrets_nothing() -> None:
    x = torch.randn(6, 1)
    assert density.likelihood_regret(Line(0.0), x, steps=20, draws=512).abs().max() < 0.02


def test_one_datum_regrets_what_another_does_not() -> None:
    """A table of a plane: the encoder is exact inside it, and wrong for one datum alone."""

    class Mixed(Line):
        def posterior(self, x: Tensor) -> Distribution:
            off = torch.where(x.abs() > 3, 1.0, 0.0)
            return Independent(Normal(0.8 * x + off, torch.full_like(x, math.sqrt(0.2))), 1)

    regret = density.likelihood_regret(
        Mixed(0.0), torch.tensor([[0.1], [5.0], [-1.0]]), steps=120, draws=512
    )
    assert regret[1] > 2
    assert regret[[0, 2]].abs().max() < 0.05


def test_refinement_needs_draws() -> None:
    with pytest.raises(InputError, match=r"draws must be at least 1; got draws=0"):
        density.likelihood_regret(Line(0.0), torch.randn(2, 1), draws=0)
