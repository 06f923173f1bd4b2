"""Exponentiated-gradient step sizes against published numbers, closed forms and differences."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_optimizers import egdd
from torch import Tensor

from univae.checkpoint import load_state, save_state
from univae.errors import InputError
from univae.optim.accumulated import AccumulatedSGD
from univae.optim.egdd import EGDD
from univae.optim.exponentiated import quantiles
from univae.optim.step_sizes import AdaptedSteps


def descend(optimizer: torch.optim.Optimizer, p: Tensor, *grads: Any) -> None:
    for g in grads:
        p.grad = torch.as_tensor(g, dtype=p.dtype).clone()
        optimizer.step()


@pytest.mark.parametrize(
    ("signs", "var", "mom", "gain"),
    [
        (False, [0.5810, 1.2463], [-0.0909, -0.1961], [0.9990, 1.0075]),
        (True, [0.5801, 1.2466], [-0.0900, -0.1965], [0.9900, 1.0101]),
    ],
)
def test_the_published_unit_test(
    signs: bool, var: list[float], mom: list[float], gain: list[float]
) -> None:
    p = torch.tensor([0.5, 1.0]).requires_grad_()
    optimizer = EGDD([p], lr=0.1, momentum=0.9, beta=0.1, gain_lr=0.01, scale_lr=0.001, signs=signs)
    descend(optimizer, p, [0.1, -0.5])
    torch.testing.assert_close(p.detach(), torch.tensor([0.49, 1.05]))
    torch.testing.assert_close(optimizer.state[p]["momentum"], torch.tensor([0.01, -0.05]))
    descend(optimizer, p, [-1.0, -1.5])
    for actual, expected in (
        (p.detach(), var),
        (optimizer.state[p]["momentum"], mom),
        (optimizer.state[p]["gain"], gain),
    ):
        assert (actual - torch.tensor(expected)).abs().max() < 5.1e-5
    assert optimizer.state[p]["scale"].item() == pytest.approx(1.0007, abs=5.1e-5)


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("directions", [False, True])
def test_egdd_equals_its_readable_twin(signs: bool, directions: bool) -> None:
    options = {
        "lr": 0.05,
        "momentum": 0.8,
        "beta": 0.7,
        "gain_lr": 0.3,
        "scale_lr": 0.2,
        "weight_decay": 0.1,
    }
    options |= {"signs": signs, "directions": directions}
    start = torch.randn(6, 2)
    grads = [torch.randn(6, 2) for _ in range(40)]
    p = start.clone().requires_grad_()
    descend(EGDD([p], **options), p, *grads)
    torch.testing.assert_close(p.detach(), egdd(start, grads, **options), rtol=1e-11, atol=1e-12)


def test_gains_have_the_closed_form_of_plain_exponentiated_gradients() -> None:
    # nu = exp(gamma sum_j g_{j-1} g_j), positive whatever the gradients are.
    grads = torch.randn(30, 5)
    p = torch.zeros(5).requires_grad_()
    optimizer = EGDD([p], momentum=0.0, beta=0.0, gain_lr=0.1, scale_lr=0.0, signs=False)
    descend(optimizer, p, *grads)
    torch.testing.assert_close(
        optimizer.state[p]["gain"], (0.1 * (grads[1:] * grads[:-1]).sum(0)).exp()
    )
    assert optimizer.state[p]["scale"] == 1


def test_rates_of_zero_leave_sgd_with_momentum() -> None:
    p, q = (
        torch.randn(4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        for _ in range(2)
    )
    optimizer = EGDD([p], lr=0.1, momentum=0.9, gain_lr=0.0, scale_lr=0.0)
    grads = torch.randn(20, 4)
    descend(optimizer, p, *grads)
    descend(torch.optim.SGD([q], lr=0.1, momentum=0.9), q, *grads)
    torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert "gain" not in optimizer.state[p]  # nor the memory for it


@pytest.mark.parametrize(("flip", "sign"), [(1.0, 1), (-1.0, -1)])
def test_constant_gradients_grow_the_gain_by_one_factor_and_alternating_ones_shrink_it(
    flip: float, sign: int
) -> None:
    p = torch.zeros(3).requires_grad_()
    gamma = 0.07
    optimizer = EGDD([p], gain_lr=gamma, beta=0.0)
    for t in range(10):
        descend(optimizer, p, [flip**t, -2 * flip**t, 0.0])
        expected = math.exp(sign * gamma * t)
        torch.testing.assert_close(
            optimizer.state[p]["gain"], torch.tensor([expected, expected, 1.0])
        )


def test_gains_and_scales_stay_within_their_limits() -> None:
    p = torch.zeros(2).requires_grad_()
    q = torch.zeros(2).requires_grad_()
    up = EGDD([p], gain_lr=2.0, scale_lr=2.0)
    down = EGDD([q], gain_lr=2.0, scale_lr=2.0, beta=0.0, momentum=0.0)
    for t in range(8):
        descend(up, p, [1.0, 1.0])
        descend(down, q, [(-1.0) ** t, (-1.0) ** t])
    assert up.state[p]["gain"].tolist() == [100.0, 100.0]
    assert down.state[q]["gain"].tolist() == [0.01, 0.01]
    assert (up.state[p]["scale"].item(), down.state[q]["scale"].item()) == (10.0, 0.1)


def test_signs_and_cosines_ignore_the_gradients_magnitude() -> None:
    grads = torch.randn(30, 4)
    step_sizes = []
    for c in (1.0, 1e-6, 1e6):
        p = torch.zeros(4).requires_grad_()
        optimizer = EGDD([p], gain_lr=0.1, scale_lr=0.1)
        descend(optimizer, p, *(c * grads))
        step_sizes.append((optimizer.state[p]["gain"], optimizer.state[p]["scale"]))
    for gain, scale in step_sizes[1:]:
        torch.testing.assert_close(gain, step_sizes[0][0])
        torch.testing.assert_close(scale, step_sizes[0][1])


@pytest.mark.parametrize("start", [0.02, 0.3, 1.9])
def test_without_noise_the_step_size_finds_the_inverse_curvature(start: float) -> None:
    # eta nu h -> about 1 on a one-dimensional quadratic; far from the minimum, so that rounding
    # plays no part.
    p = torch.tensor([1.0]).requires_grad_()
    optimizer = EGDD([p], lr=start, momentum=0.0, beta=0.0, gain_lr=0.05, scale_lr=0.0)
    for _ in range(200):
        descend(optimizer, p, p.detach())
        with torch.no_grad():
            # keep the sign and start again at distance 1: the sign rule sees nothing else
            p.div_(p.abs())
    assert 0.8 < start * optimizer.state[p]["gain"].item() < 1.2


Loss = Callable[[Tensor], Tensor]


def quadratic(n: int = 5) -> Loss:
    root = torch.randn(n, n)
    b = torch.randn(n)
    return lambda x: 0.5 * (root @ x).square().sum() + b @ x


def gradient_of(loss: Loss, x: Tensor) -> Tensor:
    return torch.func.grad(loss)(x.detach())


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("what", ["scale", "gain"])
def test_raw_updates_are_the_derivatives_of_the_next_loss(name: str, what: str) -> None:
    # d loss(theta_{t+1}) / d log s and / d log n by central differences, momentum and
    # preconditioner inside.
    loss = quadratic()
    rate = 1e-3
    start = torch.randn(5)
    history = [torch.randn(5) for _ in range(4)]

    def run(nudge: Tensor) -> tuple[Tensor, AdaptedSteps]:
        p = start.clone().requires_grad_()
        rates = (
            {"scale_lr": rate, "gain_lr": 0.0}
            if what == "scale"
            else {"scale_lr": 0.0, "gain_lr": rate}
        )
        adapted = AdaptedSteps(OPTIMIZERS[name]([p]), signs=False, directions=False, **rates)
        descend(adapted.optimizer, p, *history)
        adapted.state[p][what].mul_(nudge.exp())
        adapted.scale_lr = adapted.gain_lr = 0.0  # the step itself, with the nudged step size
        kept = adapted.state[p].pop("gain", None)
        if kept is not None:
            adapted.state[p]["gain"] = kept
            adapted.gain_lr = 1e-300
        p.grad = gradient_of(loss, p)
        adapted.optimizer.step()
        return p, adapted

    size = 1 if what == "scale" else 5
    numeric = []
    for i in range(size):
        e = torch.zeros(size)
        e[i] = 1e-5
        up, down = (loss(run(s * e if size > 1 else s * e[0])[0].detach()) for s in (1, -1))
        numeric.append((up - down) / 2e-5)
    p, adapted = run(torch.zeros(size) if size > 1 else torch.zeros(()))
    before = adapted.state[p][what].clone()
    adapted.scale_lr, adapted.gain_lr = (rate, 0.0) if what == "scale" else (0.0, rate)
    p.grad = gradient_of(loss, p)
    adapted.optimizer.step()
    derivative = -(adapted.state[p][what] / before).log() / rate
    torch.testing.assert_close(derivative.reshape(-1), torch.stack(numeric), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_adapted_steps_at_rest_are_the_optimizers_own(name: str) -> None:
    p, q = (torch.ones(6).requires_grad_() for _ in range(2))
    wrapped = OPTIMIZERS[name]([p])
    alone = OPTIMIZERS[name]([q])
    adapted = AdaptedSteps(wrapped, scale_lr=0.0, gain_lr=0.0)
    grads = torch.randn(12, 6)
    descend(wrapped, p, *grads)
    descend(alone, q, *grads)
    torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    adapted.state[p]["scale"].fill_(0.25)
    before = [x.detach().clone() for x in (p, q)]
    descend(wrapped, p, grads[0])
    descend(alone, q, grads[0])
    torch.testing.assert_close(p - before[0], 0.25 * (q - before[1]))
    adapted.remove()
    with torch.no_grad():
        q.copy_(p)
    before = [x.detach().clone() for x in (p, q)]
    descend(wrapped, p, grads[0])
    descend(alone, q, grads[0])
    torch.testing.assert_close(p - before[0], q - before[1])


def test_signs_and_cosines_follow_the_step_taken() -> None:
    p = torch.zeros(3).requires_grad_()
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapted = AdaptedSteps(optimizer, scale_lr=0.2, gain_lr=0.5)
    descend(optimizer, p, [1.0, 1.0, 1.0], [1.0, -1.0, 0.0])
    torch.testing.assert_close(adapted.state[p]["gain"], torch.tensor([0.5, -0.5, 0.0]).exp())
    # the second gradient is orthogonal to the first
    assert adapted.state[p]["scale"].item() == pytest.approx(1.0)
    before = p.detach().clone()
    descend(optimizer, p, [2.0, 2.0, 2.0])
    # The last step was -0.1 (e^.5, -e^-.5, 0): signs (-, +, 0), and its cosine with (1, 1, 1) is a
    # known number.
    cosine = (math.exp(0.5) - math.exp(-0.5)) / math.sqrt(3 * (math.e + math.exp(-1)))
    gain = torch.tensor([1.0, -1.0, 0.0]).exp()
    torch.testing.assert_close(p - before, -0.2 * math.exp(0.2 * cosine) * gain)


def test_a_window_adapts_to_every_gradient_and_scales_the_step_at_its_end() -> None:
    p = torch.zeros(1).requires_grad_()
    optimizer = AccumulatedSGD([p], lr=0.1, momentum=0.0, window=2)
    adapted = AdaptedSteps(optimizer, scale_lr=0.3)
    descend(optimizer, p, [1.0], [3.0])
    assert p.item() == pytest.approx(-0.2)
    descend(optimizer, p, [1.0])
    assert p.item() == pytest.approx(-0.2)
    assert adapted.state[p]["scale"].item() == pytest.approx(math.exp(0.3))
    descend(optimizer, p, [1.0])
    assert p.item() == pytest.approx(-0.2 - 0.1 * math.exp(0.6))


def test_halves_enter_one_step_apart() -> None:
    # g_t = a_t + b_t; the step uses a_t + b_{t-1}, and 2 a at first; step sizes are measured along
    # -b_{t-1}.
    p = torch.zeros(2).requires_grad_()
    optimizer = torch.optim.SGD([p], lr=0.1)
    adapted = AdaptedSteps(optimizer, scale_lr=0.2, halves=True)
    a = torch.randn(4, 2)
    b = torch.randn(4, 2)
    scale = 1.0
    position = torch.zeros(2)
    for t in range(4):
        p.grad = a[t].clone()
        adapted.split()
        p.grad += b[t]
        optimizer.step()
        if t:
            scale *= math.exp(0.2 * torch.cosine_similarity(a[t] + b[t], b[t - 1], dim=0))
        position -= 0.1 * scale * (a[t] + (b[t - 1] if t else a[t]))
        torch.testing.assert_close(p.detach(), position)
    with pytest.raises(InputError, match=r"AdaptedSteps: with halves, call split\(\) between"):
        optimizer.step()


def test_noise_shrinks_step_sizes_and_halves_prevent_it() -> None:
    # h = 1, eta = 0.2, noise far above the signal: consecutive products lean to minus, those of
    # halves do not.
    scales = {}
    for halves in (False, True):
        torch.manual_seed(0)
        p = torch.zeros(200).requires_grad_()
        optimizer = torch.optim.SGD([p], lr=0.2)
        adapted = AdaptedSteps(optimizer, scale_lr=0.02, halves=halves)
        for _ in range(300):
            p.grad = (p.detach() + torch.randn(200)) / 2
            if halves:
                adapted.split()
            p.grad += (p.detach() + torch.randn(200)) / 2
            optimizer.step()
        scales[halves] = adapted.state[p]["scale"].item()
    assert scales[False] < 0.75
    assert scales[True] > 1.0


@pytest.mark.parametrize("halves", [False, True])
def test_saved_step_sizes_continue_bit_for_bit(halves: bool, tmp_path: Path) -> None:
    grads = torch.randn(10, 4, dtype=torch.float32)
    results = []
    for interrupted in (False, True):
        p = torch.zeros(4, dtype=torch.float32).requires_grad_()
        optimizer = torch.optim.AdamW([p], lr=0.1)
        adapted = AdaptedSteps(optimizer, scale_lr=0.1, gain_lr=0.1, halves=halves)
        for t, g in enumerate(grads):
            if interrupted and t == 5:
                save_state(
                    {"o": optimizer.state_dict(), "a": adapted.state_dict()}, tmp_path / "state.pt"
                )
                p = p.detach().clone().requires_grad_()
                optimizer = torch.optim.AdamW([p], lr=0.1)
                adapted = AdaptedSteps(optimizer, scale_lr=0.1, gain_lr=0.1, halves=halves)
                saved = load_state(tmp_path / "state.pt")
                optimizer.load_state_dict(saved["o"])
                adapted.load_state_dict(saved["a"])
            p.grad = g.clone()
            if halves:
                adapted.split()
                p.grad += grads[-t]
            optimizer.step()
        results.append((p, adapted.state[p]["gain"], adapted.step_sizes()))
    (p, gain, logged), (q, other_gain, other_logged) = results
    assert torch.equal(p, q)
    assert torch.equal(gain, other_gain)
    assert logged == other_logged


def test_a_closure_is_refused_and_rates_below_zero() -> None:
    p = torch.zeros(1).requires_grad_()
    optimizer = torch.optim.SGD([p], lr=0.1)
    with pytest.raises(InputError, match="AdaptedSteps: gain_lr must be 0"):
        AdaptedSteps(optimizer, gain_lr=-1.0)
    with pytest.raises(InputError, match="AdaptedSteps: scale_lr must be 0"):
        AdaptedSteps(optimizer, scale_lr=math.nan)
    AdaptedSteps(optimizer)
    with pytest.raises(
        InputError, match=r"AdaptedSteps: step\(\) takes no closure.*call the closure first"
    ):
        optimizer.step(lambda: torch.zeros(()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"momentum": 1.0},
        {"beta": -0.1},
        {"gain_lr": -1.0},
        {"scale_lr": -1.0},
        {"weight_decay": -1.0},
    ],
)
def test_values_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"EGDD: {name} must be .*; got {name}={value}"):
        EGDD([torch.zeros(1).requires_grad_()], **wrong)


def test_a_summary_gives_quantiles_over_tensors_and_coordinates() -> None:
    states = [
        {"scale": torch.tensor(s), "gain": torch.full((3000,), g)}
        for s, g in ((0.5, 1.0), (2.0, 2.0), (1.0, 3.0))
    ]
    logged = quantiles(states)
    scales = {"scale_min": 0.5, "scale_median": 1.0, "scale_max": 2.0}
    assert logged == scales | {"gain_p05": 1.0, "gain_median": 2.0, "gain_p95": 3.0}
    assert quantiles([{}]) == {}
