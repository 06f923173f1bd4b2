"""One battery over every row of the registries of optimizers, step sizes and schedules."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.training.optimizer_state import restore
from experiments.training.optimizers import OPTIMIZERS, build, state_names
from experiments.training.schedules import SCHEDULES
from experiments.training.settings import Settings
from experiments.training.step_sizes import STEP_SIZES
from univae.errors import InputError
from univae.optim.step_sizes import AdaptedSteps

CPU = torch.device("cpu")
TARGET = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.5, -1.0]], dtype=torch.float64)
EVERY = pytest.mark.parametrize("name", OPTIMIZERS)
WINDOWED = pytest.mark.parametrize("name", [n for n, row in OPTIMIZERS.items() if row.has_windows])


def setup(name: str, **options: Any) -> tuple[nn.Linear, Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False)
    settings = Settings(optimizer=name, weight_decay=0.0, **{"lr": 0.02, **options})
    return model, build(model, settings, CPU)


def quadratic(model: nn.Linear) -> Tensor:
    return (model.weight - TARGET).square().sum()


def descend(model: nn.Linear, optimizer: Optimizer, rates: list[float]) -> None:
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        quadratic(model).backward()
        optimizer.step()


def step_on(model: nn.Linear, optimizer: Optimizer, gradient: Tensor) -> None:
    model.weight.grad = gradient.clone()
    optimizer.step()


@EVERY
def test_a_row_builds_an_optimizer_of_its_classes_and_says_what_it_is(name: str) -> None:
    row = OPTIMIZERS[name]
    for window in (1, 2) if row.has_windows else (1,):
        assert isinstance(setup(name, window=window)[1], row.classes)
    assert row.summary


@EVERY
def test_a_quadratic_is_minimised(name: str) -> None:
    model, optimizer = setup(name)
    descend(model, optimizer, [0.02 * (1 - step / 600) for step in range(600)])
    assert quadratic(model).item() < 1e-4


@EVERY
def test_a_restored_optimizer_continues_bit_for_bit(name: str) -> None:
    model, optimizer = setup(name)
    descend(model, optimizer, [0.02] * 3)
    state = copy.deepcopy(optimizer.state_dict())
    other, continued = setup(name)
    other.load_state_dict(model.state_dict())
    restore(continued, state, 3)
    descend(model, optimizer, [0.02] * 3)
    descend(other, continued, [0.02] * 3)
    assert torch.equal(model.weight, other.weight)


@WINDOWED
def test_a_window_of_two_keeps_the_mean_gradient(name: str) -> None:
    gradients = torch.randn(2, 2, 3)
    one, whole = setup(name)
    two, windowed = setup(name, window=2)
    step_on(one, whole, gradients.mean(0))
    for gradient in gradients:
        step_on(two, windowed, gradient)
    slot = next(slot for slot in ("momentum_buffer", "exp_avg") if slot in whole.state[one.weight])
    torch.testing.assert_close(
        windowed.state[two.weight][slot], whole.state[one.weight][slot], rtol=1e-14, atol=1e-15
    )


@WINDOWED
def test_a_window_of_two_equal_gradients_is_one_step(name: str) -> None:
    gradient = torch.randn(2, 3)
    one, whole = setup(name)
    two, windowed = setup(name, window=2)
    step_on(one, whole, gradient)
    step_on(two, windowed, gradient)
    step_on(two, windowed, gradient)
    torch.testing.assert_close(two.weight, one.weight, rtol=1e-12, atol=1e-14)
    assert not torch.equal(one.weight, setup(name)[0].weight)


@EVERY
def test_a_row_knows_the_state_that_its_optimizer_keeps(name: str) -> None:
    for options in ({}, {"window": 2}) if OPTIMIZERS[name].has_windows else ({},):
        model, optimizer = setup(name, **options)
        step_on(model, optimizer, torch.ones(2, 3))
        assert state_names(optimizer) == set(optimizer.state[model.weight])


@EVERY
def test_a_damaged_state_is_refused_and_changes_nothing(name: str) -> None:
    model, optimizer = setup(name)
    descend(model, optimizer, [0.02] * 3)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    for entry_name in state["state"][0]:
        damaged = copy.deepcopy(state)
        del damaged["state"][0][entry_name]
        with pytest.raises(InputError, match=rf"the state of parameter 0 lacks .*{entry_name}"):
            restore(optimizer, damaged, 3)
        damaged["state"][0][entry_name] = torch.zeros(7)
        with pytest.raises(InputError, match=rf"{entry_name} of parameter 0 must have the shape"):
            restore(optimizer, damaged, 3)
    for key, value in before["state"][0].items():
        assert torch.equal(
            torch.as_tensor(optimizer.state[model.weight][key]), torch.as_tensor(value)
        )


@EVERY
def test_options_that_a_row_cannot_follow_are_refused(name: str) -> None:
    row = OPTIMIZERS[name]
    if row.has_windows:
        assert Settings(optimizer=name, window=2).window == 2
    else:
        with pytest.raises(InputError, match=rf"window must be 1 with optimizer={name}"):
            Settings(optimizer=name, window=2)
    if row.is_adaptive:
        with pytest.raises(InputError, match=rf"must be no with optimizer={name}"):
            Settings(optimizer=name, adapt_step_size="scale")
    else:
        assert Settings(optimizer=name, adapt_step_size="scale").adapt_step_size == "scale"


@pytest.mark.parametrize("name", STEP_SIZES)
def test_step_sizes_are_adapted_as_the_row_says(name: str) -> None:
    row = STEP_SIZES[name]
    model, optimizer = setup("sgd")
    adapted = row.around(optimizer, Settings(adapt_step_size=name, gain_lr=0.3, scale_lr=0.2))
    step_on(model, optimizer, torch.ones(2, 3))
    assert isinstance(adapted, AdaptedSteps) == row.adapts
    state = adapted.state[model.weight] if adapted else {}
    assert ("scale" in state, "gain" in state) == (row.adapts, row.has_gains)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_stays_within_zero_and_one_and_ends_below_its_peak(name: str) -> None:
    settings = Settings(schedule=name, warmup=0.1, lr_floor=0.05)
    factors = [SCHEDULES[name].factor(step / 100, settings) for step in range(101)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == 1
    assert factors[-1] <= 0.1 + 1e-12
    peak = factors.index(1)
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
