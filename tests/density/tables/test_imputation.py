"""Imputation: exact conditional means and probabilities of a model whose posterior is known."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from density.images.mlp import MLPVAE
from density.likelihoods.columns import ColumnsLaw
from density.likelihoods.head import Pixels
from density.likelihoods.law import SMALLEST_SCALE, Scaling
from density.likelihoods.laws import LAWS
from density.tables.imputation import draw_missing, impute
from univae.errors import InputError

SLOPES = torch.tensor([2.0, -1.0], dtype=torch.float64)
SCALE = 0.5
NAN = math.nan


class Linear:
    """z ~ N(0, 1); two numbers N(slope z, 0.5^2), and a category of logits (0, 3 z)."""

    law = ColumnsLaw(LAWS["gaussian"], ("numeric", "numeric", "categorical"), (0, 0, 2))

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def posterior(self, x: Tensor) -> Distribution:
        return Independent(Normal(torch.zeros(len(x), 1), 1.5 * torch.ones(len(x), 1)), 1)

    def likelihood(self, z: Tensor) -> Distribution:
        log_scale = torch.full_like(z, math.log(SCALE - SMALLEST_SCALE))
        numbers = torch.stack([SLOPES * z, log_scale.expand(*z.shape[:-1], 2)], -1)
        logits = torch.stack([torch.zeros_like(z), 3 * z], -1)
        parameters = torch.cat([numbers, logits], -2)
        scaling = Scaling(torch.zeros(3), torch.ones(3))
        return self.law.distribution(parameters, 1, Pixels((3,), "gaussian"), scaling)


def test_a_missing_number_has_its_conditional_mean() -> None:
    x = torch.tensor([[1.0, NAN, NAN], [NAN, 0.4, NAN], [0.3, -1.2, NAN]])
    filled = impute(Linear(), x, samples=40_000)
    # z | x is Gaussian of precision 1 + sum (slope / scale)^2 over the observed numbers
    z_given_first = (2 * 1.0 / SCALE**2) / (1 + 4 / SCALE**2)
    z_given_second = (-1 * 0.4 / SCALE**2) / (1 + 1 / SCALE**2)
    assert filled[0, 1].item() == pytest.approx(-z_given_first, abs=0.02)
    assert filled[1, 0].item() == pytest.approx(2 * z_given_second, abs=0.05)


def test_a_missing_category_is_the_most_probable_one() -> None:
    x = torch.tensor([[1.0, NAN, NAN], [-1.0, NAN, NAN]])
    assert impute(Linear(), x, samples=4000)[:, 2].tolist() == [1, 0]


def test_drawn_cells_have_the_moments_of_their_posterior() -> None:
    x = torch.tensor([[1.0, NAN, NAN]]).expand(2000, 3)
    drawn = draw_missing(Linear(), x, samples=200)
    precision = 1 + 4 / SCALE**2
    mean = -(2 / SCALE**2) / precision
    variance = 1 / precision + SCALE**2
    assert drawn[:, 1].mean().item() == pytest.approx(mean, abs=6 * math.sqrt(variance / 2000))
    assert drawn[:, 1].var().item() == pytest.approx(variance, rel=0.2)
    z = Normal(-mean, precision**-0.5)
    points = z.icdf((torch.arange(4000) + 0.5) / 4000)
    share = torch.sigmoid(3 * points).mean().item()
    assert drawn[:, 2].mean().item() == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("fill", [impute, draw_missing])
def test_observed_cells_stay_and_missing_ones_are_filled(fill) -> None:
    x = torch.tensor([[1.0, NAN, 0], [NAN, NAN, NAN], [0.5, -0.2, 1]])
    filled = fill(Linear(), x, 50)
    assert not filled.isnan().any()
    torch.testing.assert_close(filled[~x.isnan()], x[~x.isnan()])


def test_a_model_without_kinds_of_columns_is_refused() -> None:
    model = MLPVAE(Pixels((2,), "gaussian"), latents=(2,), hidden=((4,),))
    with pytest.raises(InputError, match="must be one of columns by name"):
        impute(model, torch.zeros(1, 2), 5)
