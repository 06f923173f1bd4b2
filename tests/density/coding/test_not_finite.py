"""Numbers of a model that are not finite: an error says which, of which layer and which row."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import density
from density.coding.buckets import BucketGrid
from density.coding.exact import exactly, prepared
from density.coding.gaussians import as_gaussians
from density.images.mlp import MLPVAE
from density.likelihoods.distributions import CategoricalPixels
from density.likelihoods.head import Pixels
from univae.errors import InputError

SHAPE = (1, 3, 3)
BROKEN = 57  # the row at which a model breaks


def rows() -> np.ndarray:
    """Rows of zeros and ones, of which one row alone is all ones."""
    x = np.random.default_rng(0).integers(2, size=(60, *SHAPE))
    x[:, 0, 0, 0] = 0
    x[BROKEN] = 1
    return x


class Breaking(MLPVAE):
    """A model one of whose parts gives NaN for the row of ones alone."""

    def __init__(self, part: str, latents: tuple[int, ...] = (2,), **options: int) -> None:
        hidden = ((6,),) * len(latents)
        super().__init__(Pixels(SHAPE, "categorical", 2, **options), latents, hidden)
        self.part = part
        self.is_broken = False

    def posterior(self, x: Tensor) -> Distribution:
        is_one = (x == 1).flatten(1).all(1)
        self.is_broken = bool(is_one.any())
        if self.part == "posterior":
            x = torch.where(is_one.view(-1, 1, 1, 1), math.nan, x.double())
        return super().posterior(x)

    def decode(self, z: Tensor) -> Tensor:
        raw = super().decode(z)
        if self.part == "likelihood" and self.is_broken and z.dim() > 1:
            raw = raw.clone()
            raw[..., 0, 0, 0] = math.nan
        return raw


@pytest.mark.parametrize(
    ("latents", "particles", "block"),
    [
        ((2,), 1, 30),
        ((2,), 1, 4096),
        ((3, 2), 1, 30),
        ((2,), 3, 30),
        pytest.param((2,), 3, 4096, marks=pytest.mark.slow),
        pytest.param((3, 2), 1, 4096, marks=pytest.mark.slow),
        pytest.param((3, 2), 3, 30, marks=pytest.mark.slow),
        pytest.param((3, 2), 3, 4096, marks=pytest.mark.slow),
    ],
)
def test_a_posterior_is_named_with_its_layer_and_row(
    latents: tuple[int, ...], particles: int, block: int
) -> None:
    message = f"posterior of latent layer 0 has no finite mean and deviation for row {BROKEN};"
    with pytest.raises(InputError, match=message):
        density.compress(Breaking("posterior", latents), rows(), particles=particles, block=block)


@pytest.mark.parametrize("reach", [0, 1])
@pytest.mark.parametrize("block", [30, 4096])
def test_a_distribution_of_pixels_is_named_with_its_row(block: int, reach: int) -> None:
    model = Breaking("likelihood", reach=reach)
    with pytest.raises(
        InputError, match=f"pixels has no finite probabilities for row {BROKEN}; train or restore"
    ):
        density.compress(model, rows(), block=block)


def test_rows_of_a_tile_are_told_apart() -> None:
    message = f"no finite mean and deviation for row {BROKEN};"
    with pytest.raises(InputError, match=message):
        density.compress(Breaking("posterior"), rows(), tile=8)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, r"the weight up\.laws\.0\.mean\.bias holds nan"),
        (math.inf, r"the posterior of latent layer 1 has no finite mean and deviation; train or"),
    ],
)
def test_a_weight_is_named(value: float, message: str) -> None:
    model = MLPVAE(Pixels(SHAPE), (3, 2), ((6,), (5,)))
    with torch.no_grad():
        model.up.laws[0].mean.bias[1] = value
    with pytest.raises(InputError, match=f"compress: {message}"):
        density.compress(model, rows())


class Deep(MLPVAE):
    """A model whose prior overflows between finite weights."""

    def prior(self) -> Distribution:
        with torch.no_grad():
            self.down.laws[0].mean.weight.fill_(1e308)
            self.down.laws[0].mean.bias.fill_(1e308)
        return super().prior()


def test_a_prior_that_overflows_is_named_with_its_layer() -> None:
    with pytest.raises(InputError, match=r"the prior of latent layer 0 has no finite mean"):
        density.compress(Deep(Pixels(SHAPE), (3, 2), ((6,), (5,))), rows())


def test_a_missing_value_is_named_with_its_row() -> None:
    x = rows().astype(float)
    x[BROKEN, 0, 1, 1] = math.nan
    with pytest.raises(InputError, match=rf"got nan in row {BROKEN}; fill or leave out"):
        density.compress(MLPVAE(Pixels(SHAPE), (2,), ((6,),)), x)


def test_gaussians_name_what_they_are_of_and_the_first_row() -> None:
    mean = torch.zeros(4, 2)
    mean[2, 1] = math.nan
    q = Independent(Normal(mean, 1.0, validate_args=False), 1, validate_args=False)
    with pytest.raises(InputError, match=r"compress: the code has no finite mean .* for row 2;"):
        as_gaussians(q, 4, "the code")


def test_a_grid_and_its_intervals_are_of_finite_numbers() -> None:
    with pytest.raises(InputError, match=r"a grid of latents has no finite mean and deviation"):
        BucketGrid(np.array([0.0, math.nan]), np.ones(2))
    grid = BucketGrid(np.array([1e308]), np.array([1e300]))
    bucket = np.zeros((3, 1), np.int64)
    with pytest.raises(InputError, match=r"latents lies beyond float64 .* for row 1;"):
        grid.start(bucket, np.array([[1e308], [-1e308], [1e308]]), np.ones((3, 1)))


def test_arguments_of_distributions_are_checked_again_after_a_code() -> None:
    with exactly():
        Normal(math.nan, 1.0)
    with pytest.raises(ValueError, match="Expected parameter loc"):
        Normal(math.nan, 1.0)


def test_impossible_levels_keep_their_code() -> None:
    """A logit of minus infinity is a probability of zero, not a missing number."""

    class Certain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def prior(self) -> Distribution:
            return Independent(Normal(torch.zeros(2), 1.0), 1)

        def posterior(self, x: Tensor) -> Distribution:
            return Independent(Normal(torch.zeros(len(x), 2), 1.0), 1)

        def likelihood(self, z: Tensor) -> Distribution:
            logits = torch.zeros(*z.shape[:-1], 4, 3)
            logits[..., 2] = -math.inf
            return CategoricalPixels(logits, 1)

    x = np.random.default_rng(1).integers(2, size=(30, 4))
    assert prepared(Certain()) is not None
    assert np.array_equal(density.decompress(Certain(), density.compress(Certain(), x)), x)
