"""Every row of the registry of bounds: loss and value agree; ignored options are refused."""

import functools
from typing import Any

import pytest
import torch

import density
from density.images.mlp import MLPVAE
from density.likelihoods.head import Pixels
from experiments.images.bounds import BOUNDS
from experiments.images.task import ImageObjective
from univae.errors import InputError

CHANGED: dict[str, Any] = {
    "groups": 2,
    "kl_weight": 0.5,
    "annealing": "linear",
    "free_bits": 1.0,
}

every_bound = pytest.mark.parametrize("name", BOUNDS)


def made() -> tuple[MLPVAE, torch.Tensor]:
    """Return a model and data, the same at every call."""
    torch.manual_seed(0)
    model = MLPVAE(Pixels((6,)), (3, 2), ((8,), (8,)))
    return model, torch.randint(2, (10, 6)).double()


@functools.cache
def log_likelihood() -> float:
    """Return the mean log-likelihood of the data, estimated once."""
    with torch.no_grad():
        return density.estimate(*made(), 4096).log_likelihood.mean().item()


@pytest.fixture
def model() -> MLPVAE:
    return made()[0]


@pytest.fixture
def x() -> torch.Tensor:
    return made()[1]


@every_bound
def test_the_loss_is_the_negative_sum_of_the_bounds(
    name: str, model: MLPVAE, x: torch.Tensor
) -> None:
    options = ImageObjective(objective=name, k=3)
    torch.manual_seed(1)
    value = BOUNDS[name].value(model, x, options)
    torch.manual_seed(1)
    loss, _ = BOUNDS[name].loss(model, x, options, 0.0)
    assert value.shape == (10,)
    torch.testing.assert_close(loss, -value.sum())


@every_bound
def test_the_bound_lies_below_the_likelihood_and_reaches_every_weight(
    name: str, model: MLPVAE, x: torch.Tensor
) -> None:
    options = ImageObjective(objective=name, k=4)
    with torch.no_grad():  # 200 bounds of every datum
        values = BOUNDS[name].value(model, x.repeat(200, 1), options).view(200, 10)
    error = values.mean(1).std() / 200**0.5
    assert values.mean() < log_likelihood() + 5 * error
    loss, _ = BOUNDS[name].loss(model, x, options, 0.0)
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


@every_bound
@pytest.mark.parametrize("option", CHANGED)
def test_an_option_is_taken_or_refused(name: str, option: str) -> None:
    changed = {option: CHANGED[option]}
    if option in BOUNDS[name].options:
        assert getattr(ImageObjective(objective=name, **changed), option) == CHANGED[option]
        return
    takers = [other for other, bound in BOUNDS.items() if option in bound.options]
    with pytest.raises(
        InputError, match=f"{option} must be .* unless .*{' or '.join(takers)}; got {option}="
    ):
        ImageObjective(objective=name, **changed)


@every_bound
def test_bounds_take_the_options_they_name(name: str, model: MLPVAE, x: torch.Tensor) -> None:
    changes: dict[str, Any] = {"k": 5, "groups": 3, "beta": 0.9}
    torch.manual_seed(1)
    base = BOUNDS[name].value(model, x, ImageObjective(objective=name, k=2))
    for option, value in changes.items():
        if option not in BOUNDS[name].options:
            continue
        torch.manual_seed(1)
        options = ImageObjective(**{"objective": name, "k": 2, option: value})
        assert not torch.equal(BOUNDS[name].value(model, x, options), base)
