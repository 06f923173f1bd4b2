"""One battery that every optimizer of the library passes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from univae.checkpoint import load_state, save_state
from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.egdd import EGDD
from univae.optim.tiger import Tiger

EVERY: dict[str, tuple[Callable[..., Optimizer], dict[str, float]]] = {
    # A learning rate each for the parabola and for Rosenbrock's valley.
    "sgd": (AccumulatedSGD, {"parabola": 0.1, "rosenbrock": 4e-4}),
    "sgd window": (
        lambda p, **o: AccumulatedSGD(p, window=3, **o),
        {"parabola": 0.1, "rosenbrock": 1e-3},
    ),
    "adamw": (
        lambda p, **o: AccumulatedAdamW(p, weight_decay=0.0, **o),
        {"parabola": 0.1, "rosenbrock": 0.05},
    ),
    "adamw plain": (
        lambda p, **o: AccumulatedAdamW(p, weight_decay=0.0, window=3, second_moment="plain", **o),
        {"parabola": 0.1, "rosenbrock": 0.1},
    ),
    "adamw corrected": (
        lambda p, **o: AccumulatedAdamW(p, weight_decay=0.0, window=3, **o),
        {"parabola": 0.1, "rosenbrock": 0.05},
    ),
    "tiger": (
        lambda p, **o: Tiger(p, weight_decay=0.0, **o),
        {"parabola": 0.02, "rosenbrock": 4e-3},
    ),
    "egdd": (EGDD, {"parabola": 0.05, "rosenbrock": 1e-5}),
    "egdd scale": (
        lambda p, **o: EGDD(p, gain_lr=0.0, **o),
        {"parabola": 0.05, "rosenbrock": 2e-4},
    ),
}
every = pytest.mark.parametrize("name", EVERY)
IN_THE_VALLEY = ("sgd window", "adamw corrected", "egdd scale")  # of every kind one, when in haste


def make(name: str, params: Any, lr: float | None = None, **options: Any) -> Optimizer:
    build, rates = EVERY[name]
    return build(params, lr=rates["parabola"] if lr is None else lr, **options)


def parabola(x: Tensor) -> Tensor:
    return (x - torch.tensor([1.0, -1.0, 1.0]).to(x)).square().sum()


def rosenbrock(x: Tensor) -> Tensor:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def minimise(
    optimizer: Optimizer, x: Tensor, loss: Callable[[Tensor], Tensor], steps: int
) -> float:
    rate = optimizer.param_groups[0]["lr"]
    for t in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - t / steps)  # so that sign steps, too, come to rest
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    return loss(x).item()


@every
def test_a_parabola_is_minimised(name: str) -> None:
    x = torch.zeros(3).requires_grad_()
    assert minimise(make(name, [x]), x, parabola, 600) < 1e-3


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in IN_THE_VALLEY else [pytest.mark.slow])
        for name in EVERY
    ],
)
def test_rosenbrocks_valley_is_followed(name: str) -> None:
    x = torch.tensor([-1.0, 1.0]).requires_grad_()
    assert (
        minimise(make(name, [x], EVERY[name][1]["rosenbrock"]), x, rosenbrock, 1000)
        < 0.2
        < rosenbrock(-x.sign()) / 20
    )


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_parameters_keep_their_dtype_and_state_is_float32_at_least(
    name: str, dtype: torch.dtype
) -> None:
    x = torch.zeros(3, dtype=dtype).requires_grad_()
    optimizer = make(name, [x])
    minimise(optimizer, x, parabola, 60)
    assert x.dtype == dtype
    held = [v for v in optimizer.state[x].values() if isinstance(v, Tensor)]
    assert held
    assert {v.dtype for v in held} == {torch.promote_types(dtype, torch.float32)}
    assert parabola(x.detach().double()) < 2.0


@every
@pytest.mark.parametrize("stop", [3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, stop: int, tmp_path: Path) -> None:
    weights = []
    for interrupted in (False, True):
        x = torch.full((3,), 0.3).requires_grad_()
        optimizer = make(name, [x])
        for t in range(9):
            if interrupted and t == stop:
                save_state(optimizer.state_dict(), tmp_path / "state.pt")
                x = x.detach().clone().requires_grad_()
                optimizer = make(name, [x], lr=7.0)  # the state brings its own
                optimizer.load_state_dict(load_state(tmp_path / "state.pt"))
            optimizer.zero_grad()
            (parabola(x) + x[0].sin() * t).backward()
            optimizer.step()
        weights.append(x)
    assert torch.equal(*weights)


@every
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(name: str) -> None:
    weights = []
    for by_closure in (False, True):
        x = torch.zeros(3).requires_grad_()
        optimizer = make(name, [x])

        def closure(x: Tensor = x, optimizer: Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = parabola(x)
            loss.backward()
            return loss

        for _ in range(4):
            expected = parabola(x).item()
            if by_closure:
                assert optimizer.step(closure).item() == expected
            else:
                closure()
                assert optimizer.step() is None
        weights.append(x)
    assert torch.equal(*weights)


@every
def test_maximising_is_minimising_the_negative(name: str) -> None:
    x, y = (torch.zeros(3).requires_grad_() for _ in range(2))
    minimise(make(name, [x]), x, parabola, 20)
    minimise(make(name, [y], maximize=True), y, lambda y: -parabola(y), 20)
    assert torch.equal(x, y)
    assert x.abs().sum() > 0.1


@every
def test_groups_have_rates_of_their_own_and_can_be_added(name: str) -> None:
    x, y, z = (torch.zeros(3).requires_grad_() for _ in range(3))
    optimizer = make(name, [{"params": [x]}, {"params": [y], "lr": 0.0}])
    optimizer.add_param_group({"params": [z]})
    for _ in range(3):
        optimizer.zero_grad()
        (parabola(x) + parabola(y) + parabola(z)).backward()
        optimizer.step()
    assert torch.equal(x, z)
    assert x.abs().sum() > 0
    assert y.abs().sum() == 0


@every
def test_what_has_no_gradient_is_left_alone(name: str) -> None:
    x, unused = (torch.ones(3).requires_grad_() for _ in range(2))
    frozen = torch.ones(3)
    optimizer = make(name, [x, unused, frozen])
    minimise(optimizer, x, parabola, 6)
    assert torch.equal(unused, torch.ones(3))
    assert torch.equal(frozen, torch.ones(3))
    assert set(optimizer.state) == {x}
    optimizer.zero_grad()
    before = x.detach().clone()
    for _ in range(3):
        optimizer.step()  # no gradient at all
    assert torch.equal(x, before)


@every
def test_torchs_schedulers_drive_the_rate(name: str) -> None:
    x = torch.zeros(3).requires_grad_()
    optimizer = make(name, [x], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    updates = 0
    for _ in range(6):
        optimizer.zero_grad()
        parabola(x).backward()
        optimizer.step()
        if getattr(optimizer, "moved", True):
            schedule.step()
            updates += 1
    assert updates == (2 if name in ("sgd window", "adamw plain", "adamw corrected") else 6)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**updates)


@every
def test_large_and_small_tensors_are_updated_alike(name: str) -> None:
    # More elements than are updated together, in one tensor and in many.
    torch.manual_seed(0)
    whole = torch.randn(700_000, dtype=torch.float32)
    grads = [torch.randn(700_000, dtype=torch.float32) for _ in range(3)]
    one = whole.clone().requires_grad_()
    many = [part.clone().requires_grad_() for part in whole.split(300_000)]
    first = make(name, [one], lr=0.01)
    second = make(name, many, lr=0.01)
    for optimizer in (first, second):
        if "scale_lr" in optimizer.param_groups[0]:
            # the scale is a tensor's, so it depends on the cut
            optimizer.param_groups[0]["scale_lr"] = 0.0
    for g in grads:
        one.grad = g.clone()
        for p, part in zip(many, g.split(300_000), strict=True):
            p.grad = part.clone()
        first.step()
        second.step()
    assert torch.equal(one, torch.cat([p.detach() for p in many]))
    assert not torch.equal(one, whole)
