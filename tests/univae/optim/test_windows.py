"""Short and skipped parts of windows, and groups that join inside one, against closed forms."""

import copy
import math

import pytest
import torch
from test_accumulated import FAMILY, SHAPES, every, gradients, micro_step, parameters
from torch import Tensor, nn

from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.backward_folding import accumulate_in_backward
from univae.optim.tiger import Tiger
from univae.optim.window_phase import joining_position
from univae.optim.windowed import Windowed

K = 4
BAD = ({1}, {0}, {2, 3}, {1, 2, 3}, {3})  # the skipped micro-steps of each window


def state_of(optimizer: Windowed, p: Tensor) -> dict[str, Tensor]:
    """The averages of a parameter, by name."""
    return {name: optimizer.state[p][name] for name in optimizer.decays(optimizer.param_groups[0])}


def closed_form(windows: list[list[Tensor]], beta: float, weight: float) -> Tensor:
    r""":math:`\sum_s \beta^{S-s} \frac{w}{n_s} \sum_i g_{s,i}`; without a past n is the finite count."""
    total = torch.zeros_like(windows[0][0])
    for age, finite in enumerate(reversed(windows)):
        has_past = age < len(windows) - 1 and beta > 0
        total += beta**age * weight / (K if has_past else len(finite)) * sum(finite)
    return total


MAKE = {
    "sgd": lambda p, beta: AccumulatedSGD(p, momentum=beta, window=K),
    "adamw": lambda p, beta: AccumulatedAdamW(p, betas=(beta, 0.7), window=K),
    "tiger": lambda p, beta: Tiger(p, beta=beta, window=K),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9])
def test_a_skipped_gradient_counts_as_zero_and_the_past_decays_as_ever(
    name: str, beta: float
) -> None:
    ours = parameters()
    optimizer = MAKE[name](ours, beta)
    kept: list[list[list[Tensor]]] = []
    for skipped, start in zip(BAD, range(0, K * len(BAD), K), strict=True):
        window = gradients(K * len(BAD))[start : start + K]
        kept.append([g for i, g in enumerate(window) if i not in skipped])
        for i, g in enumerate(window):
            bad = [torch.full_like(x, math.nan) for x in g]
            micro_step(optimizer, ours, bad if i in skipped else g)
        assert optimizer.moved
        decays = optimizer.decays(optimizer.param_groups[0])
        for index, p in enumerate(ours):
            for slot, value in state_of(optimizer, p).items():
                power = 2 if slot == "exp_avg_sq" else 1
                windows = [[g[index] ** power for g in finite] for finite in kept]
                weight = 1.0 if name == "sgd" else 1 - decays[slot]
                expected = closed_form(windows, decays[slot], weight)
                torch.testing.assert_close(value, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", MAKE)
def test_without_new_gradients_a_skipped_one_leaves_the_momentum_its_decay(name: str) -> None:
    (p,) = parameters()[:1]
    optimizer = MAKE[name]([p], 0.9)
    for _ in range(K):
        micro_step(optimizer, [p], [torch.ones_like(p)])
    before = {slot: value.clone() for slot, value in state_of(optimizer, p).items()}
    for _ in range(K - 1):
        micro_step(optimizer, [p], [torch.full_like(p, math.nan)])
    micro_step(optimizer, [p], [torch.zeros_like(p)])
    for slot, beta in optimizer.decays(optimizer.param_groups[0]).items():
        assert torch.equal(state_of(optimizer, p)[slot], beta * before[slot])


@every
@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_group_added_inside_a_window_moves_with_the_others_on_the_mean_of_what_it_saw(
    name: str, late: int
) -> None:
    ours = parameters()
    old = ours[:2]
    new = ours[2:]
    grads = gradients(3 * K)
    optimizer = FAMILY[name](old, window=K)
    start = [p.detach().clone() for p in new]
    for g in grads[:late]:
        micro_step(optimizer, old, g[:2])
    optimizer.add_param_group({"params": new})
    for t, g in enumerate(grads[late:], start=late + 1):
        before = [p.detach().clone() for p in ours]
        micro_step(optimizer, ours, g)
        moved = [not torch.equal(p, q) for p, q in zip(ours, before, strict=True)]
        assert moved == [t % K == 0] * 3
        assert optimizer.moved == (t % K == 0)
    twin = [p.clone().requires_grad_() for p in start]
    other = FAMILY[name](twin, window=K - late)
    for g in grads[late:K]:
        micro_step(other, twin, g[2:])
    other.param_groups[0]["window"] = K
    for g in grads[K:]:
        micro_step(other, twin, g[2:])
    for p, q in zip(new, twin, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-14)


@every
def test_a_group_that_joined_finishes_and_resumes_with_the_others(name: str) -> None:
    grads = gradients(4)
    results = []
    for interrupted in (False, True):
        ours = parameters()
        optimizer = FAMILY[name](ours[:2], window=5)
        micro_step(optimizer, ours[:2], grads[0][:2])
        optimizer.add_param_group({"params": ours[2:]})
        micro_step(optimizer, ours, grads[1])
        if interrupted:
            state = copy.deepcopy(optimizer.state_dict())
            ours = [p.detach().clone().requires_grad_() for p in ours]
            optimizer = FAMILY[name](ours[:2], window=5)
            optimizer.add_param_group({"params": ours[2:]})
            optimizer.load_state_dict(state)
        micro_step(optimizer, ours, grads[2])
        optimizer.finish()
        assert optimizer.moved
        results.append(ours)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))
    (twin,) = [p.detach().clone().requires_grad_() for p in parameters()[2:]]
    other = FAMILY[name]([twin], window=2)
    for g in grads[1:3]:
        micro_step(other, [twin], g[2:])
    torch.testing.assert_close(results[0][2], twin, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["sgd", "tiger"])
def test_alike_processes_skip_and_join_as_one_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.mul_(2))
    grads = gradients(2 * K)
    results = []
    for processes in (1, 2):
        ours = parameters()
        optimizer = FAMILY[name](ours[:2], window=K)
        optimizer.processes = processes
        micro_step(optimizer, ours[:2], grads[0][:2])
        optimizer.add_param_group({"params": ours[2:]})
        for t, g in enumerate(grads[1:], start=1):
            bad = [torch.full_like(x, math.inf) for x in g]
            micro_step(optimizer, ours, bad if t in (2, 5) else g)
        assert optimizer.moved
        results.append(ours)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))


def group(window: int, position: int) -> dict[str, int]:
    return {"window": window, "position": position}


@pytest.mark.parametrize(
    ("groups", "window", "position"),
    [
        ([], 4, 0),
        ([group(4, 0)], 4, 0),
        ([group(4, 3)], 4, 3),
        ([group(4, 3)], 8, 7),  # one micro-step is left of either
        ([group(4, 1)], 2, 1),  # it moves after 1 and after 3 micro-steps, the other after 3
        ([group(4, 1)], 1, 0),
        ([group(8, 3), group(2, 1)], 2, 1),  # the one of the same window leads
        ([group(2, 1), group(8, 3)], 16, 11),  # or else the longest
    ],
)
def test_the_joined_window_ends_where_the_leading_one_does(
    groups: list[dict[str, int]], window: int, position: int
) -> None:
    assert joining_position(groups, window) == position


def test_a_group_from_another_optimizer_begins_a_window_of_its_own() -> None:
    (p, q, *_) = parameters()
    first = AccumulatedSGD([p], window=3)
    micro_step(first, [p], [torch.ones_like(p)])
    second = AccumulatedSGD([{**first.param_groups[0], "params": [q]}])
    assert second.param_groups[0]["window"] == 3
    assert second.moved


@every
def test_parameters_added_or_unfrozen_later_are_folded_once_and_keep_no_gradient(name: str) -> None:
    grads = gradients(8)
    results = []
    for folds in (False, True):
        ours = parameters()
        ours[1].requires_grad_(False)
        optimizer = FAMILY[name](ours[:2], window=2)
        if folds:
            accumulate_in_backward(optimizer)
        for t, g in enumerate(grads):
            if t == 3:
                ours[1].requires_grad_()
                optimizer.add_param_group({"params": ours[2:]})
            trained = [0] if t < 3 else [0, 1, 2]
            sum((ours[i] * g[i]).sum() for i in trained).backward()
            optimizer.step()
            assert not folds or all(p.grad is None for p in ours)
            optimizer.zero_grad()
        results.append(ours)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))


def test_a_loaded_window_is_that_of_the_folded_gradients() -> None:
    model = nn.Linear(1, 1, bias=False)
    state = AccumulatedSGD(model.parameters(), window=2).state_dict()
    optimizer = AccumulatedSGD(model.parameters(), lr=0.0, window=4)
    accumulate_in_backward(optimizer)
    optimizer.load_state_dict(state)
    for _ in range(2):
        model.weight.sum().backward()
        optimizer.step()
    assert optimizer.moved
    assert optimizer.state[model.weight]["momentum_buffer"].item() == 1.0  # the mean of two ones


@every
def test_a_copied_optimizer_goes_on_alike(name: str) -> None:
    ours = parameters()
    optimizer = FAMILY[name](ours, window=2)
    grads = gradients(3)
    micro_step(optimizer, ours, grads[0])
    twin = copy.deepcopy(optimizer)
    theirs = twin.param_groups[0]["params"]
    for g in grads[1:]:
        micro_step(optimizer, ours, g)
        micro_step(twin, theirs, g)
    assert len(theirs) == len(SHAPES)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
