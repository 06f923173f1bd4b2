"""Priors of which every datum has its own, by covariates: draws lie beside their datum."""

import math

import pytest
import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal

from density import Defensive, annealed, estimate, sandwich
from density.model import draw_prior
from univae.errors import InputError

CENTRES = torch.tensor([[-4.0], [0.0], [3.0]], dtype=torch.float64)


class Conditional:
    """z ~ N(u, 1), x = z + noise, for covariates u of each datum; a posterior off its place."""

    def prior(self) -> Distribution:
        return Independent(Normal(CENTRES, 1.0), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal((CENTRES + x) / 2 + 0.3, 0.7), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, 1.0), 1)

    def evidence(self, x: Tensor) -> Tensor:
        return Normal(CENTRES, math.sqrt(2)).log_prob(x).sum(-1)


def test_a_defensive_mixture_takes_the_prior_of_each_datum() -> None:
    model = Conditional()
    x = CENTRES + torch.randn(3, 1)
    result = estimate(model, x, 20_000, proposal=Defensive(0.5))
    error = result.log_likelihood - model.evidence(x)
    assert (error.abs() < 5 * result.standard_error).all()
    assert (result.standard_error < 0.02).all()


def test_chains_from_the_prior_start_beside_their_datum() -> None:
    model = Conditional()
    x = CENTRES + torch.randn(3, 1)
    result = annealed(model, x, 10, 200)
    error = result.log_likelihood - model.evidence(x)
    assert (error.abs() < 5 * result.standard_error + 0.01).all()
    assert (result.standard_error < 0.1).all()


def test_draws_of_a_prior_have_one_row_per_datum() -> None:
    for batch_shape in (Size(), Size((3,))):
        prior = Independent(Normal(torch.zeros(*batch_shape, 2), 1.0), 1)
        assert draw_prior(prior, 5, Size((3,))).shape == (5, 3, 2)
    message = r"of batch shape \(\) or \(4,\); got \(3,\); sum over other axes with Independent"
    with pytest.raises(InputError, match=message):
        draw_prior(prior, 5, Size((4,)))


def test_data_are_not_simulated_from_a_prior_of_each_datum() -> None:
    with pytest.raises(InputError, match=r"sandwich: .* of batch shape \(\); got \(3,\)"):
        sandwich(Conditional(), 3, 10, 2)
