"""Accumulation in the momentum against a buffer, closed forms and readable twins."""

import copy
import math
import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_optimizers import adamw, tiger
from torch import Tensor, nn

from univae.checkpoint import load_state, save_state
from univae.errors import InputError
from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.backward_folding import accumulate_in_backward
from univae.optim.egdd import EGDD
from univae.optim.tiger import Tiger
from univae.optim.windowed import Windowed

SHAPES = ((7, 5), (3,), ())


def parameters(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES)
    return [x.to(dtype).requires_grad_() for x in drawn]


def gradients(count: int, dtype: torch.dtype = torch.float64) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]
        for _ in range(count)
    ]


def micro_step(optimizer: torch.optim.Optimizer, params: list[Tensor], grads: list[Tensor]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = g.clone()
    optimizer.step()
    optimizer.zero_grad()


def means(grads: list[list[Tensor]], k: int) -> list[list[Tensor]]:
    windows = [grads[i : i + k] for i in range(0, len(grads), k)]
    return [[sum(parts) / k for parts in zip(*window, strict=True)] for window in windows]


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd_over_windows_is_sgd_on_their_means(
    k: int, momentum: float, weight_decay: float
) -> None:
    ours = parameters()
    theirs = parameters()
    options = {"lr": 0.05, "momentum": momentum, "weight_decay": weight_decay}
    folded = AccumulatedSGD(ours, window=k, **options)
    buffered = torch.optim.SGD(theirs, **options)
    grads = gradients(5 * k)
    for t, mean in enumerate(means(grads, k)):
        for g in grads[t * k : (t + 1) * k]:
            micro_step(folded, ours, g)
        micro_step(buffered, theirs, mean)
        for p, q in zip(ours, theirs, strict=True):
            assert (p - q).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("maximize", [False, True])
def test_a_window_of_one_is_torch_bit_for_bit(dtype: torch.dtype, maximize: bool) -> None:
    adam = {
        "lr": 0.05,
        "betas": (0.9, 0.99),
        "eps": 1e-6,
        "weight_decay": 0.1,
        "maximize": maximize,
    }
    plain = adam | {"weight_decay": 0.0}
    sgd = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "maximize": maximize}
    pairs = [
        (
            lambda p: AccumulatedAdamW(p, **adam),
            lambda p: torch.optim.AdamW(p, fused=True, **adam),
        ),
        (
            lambda p: AccumulatedAdamW(p, second_moment="plain", **plain),
            lambda p: torch.optim.Adam(p, fused=True, **plain),
        ),
        (lambda p: AccumulatedSGD(p, **sgd), lambda p: torch.optim.SGD(p, **sgd)),
    ]
    for mine, torchs in pairs:
        ours = parameters(dtype)
        theirs = parameters(dtype)
        a = mine(ours)
        b = torchs(theirs)
        for g in gradients(20, dtype):
            micro_step(a, ours, g)
            micro_step(b, theirs, g)
            assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_window_of_one_is_adamw_of_any_implementation_up_to_rounding(
    dtype: torch.dtype, error: float
) -> None:
    ours = parameters(dtype)
    theirs = parameters(dtype)
    folded = AccumulatedAdamW(ours, lr=0.05, weight_decay=0.1)
    buffered = torch.optim.AdamW(theirs, lr=0.05, weight_decay=0.1, foreach=False)
    for g in gradients(20, dtype):
        micro_step(folded, ours, g)
        micro_step(buffered, theirs, g)
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=error, atol=error)


def test_folding_in_the_backward_pass_with_a_window_of_one_is_adamw_bit_for_bit() -> None:
    # Fold and move are then apart, so the fused kernel does not serve.
    ours = parameters(torch.float32)
    theirs = parameters(torch.float32)
    folded = AccumulatedAdamW(ours)
    accumulate_in_backward(folded)
    buffered = torch.optim.AdamW(theirs, foreach=False)
    for grads in gradients(20, torch.float32):
        sum((p * g).sum() for p, g in zip(ours, grads, strict=True)).backward()
        folded.step()
        micro_step(buffered, theirs, grads)
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def test_adams_first_moment_is_exact_and_its_second_the_mean_of_squares() -> None:
    k = 4
    ours = parameters()
    theirs = parameters()
    folded = AccumulatedAdamW(ours, window=k)
    buffered = torch.optim.AdamW(theirs)
    grads = gradients(5 * k)
    squares = [torch.zeros(shape) for shape in SHAPES]
    for t, mean in enumerate(means(grads, k)):
        for g in grads[t * k : (t + 1) * k]:
            micro_step(folded, ours, g)
        micro_step(buffered, theirs, mean)
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            squares[i] = (
                0.999 * squares[i] + 0.001 * sum(g[i] ** 2 for g in grads[t * k : (t + 1) * k]) / k
            )
            assert (folded.state[p]["exp_avg"] - buffered.state[q]["exp_avg"]).abs().max() < 1e-15
            assert (folded.state[p]["exp_avg_sq"] - squares[i]).abs().max() < 1e-15
            assert folded.state[p]["step"] == t + 1


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("second_moment", ["plain", "corrected", "unbiased"])
def test_adamw_over_windows_equals_its_readable_twin(k: int, second_moment: str) -> None:
    options = {
        "lr": 0.1,
        "betas": (0.8, 0.95),
        "eps": 1e-4,
        "weight_decay": 0.3,
        "second_moment": second_moment,
    }
    ours = parameters()
    grads = gradients(6 * k)
    optimizer = AccumulatedAdamW(ours, window=k, **options)
    for g in grads:
        micro_step(optimizer, ours, g)
    for i, (p, start) in enumerate(zip(ours, parameters(), strict=True)):
        windows = [[g[i] for g in grads[t : t + k]] for t in range(0, len(grads), k)]
        torch.testing.assert_close(
            p.detach(), adamw(start.detach(), windows, **options), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("k", [1, 4])
def test_tiger_over_windows_is_tiger_on_their_means(k: int) -> None:
    options = {"lr": 0.01, "beta": 0.7, "weight_decay": 0.2}
    ours = parameters()
    grads = gradients(8 * k)
    optimizer = Tiger(ours, window=k, **options)
    for g in grads:
        micro_step(optimizer, ours, g)
    for i, (p, start) in enumerate(zip(ours, parameters(), strict=True)):
        windows = [[mean[i]] for mean in means(grads, k)]
        torch.testing.assert_close(
            p.detach(), tiger(start.detach(), windows, **options), rtol=1e-12, atol=1e-12
        )


FAMILY = {
    "sgd": lambda p, **o: AccumulatedSGD(p, lr=0.1, weight_decay=0.1, **o),
    "adamw": lambda p, **o: AccumulatedAdamW(p, lr=0.1, **o),
    "tiger": lambda p, **o: Tiger(p, lr=0.1, **o),
}
every = pytest.mark.parametrize("name", FAMILY)


@every
def test_parameters_rest_inside_a_window_weight_decay_included(name: str) -> None:
    ours = parameters()
    optimizer = FAMILY[name](ours, window=3)
    for t, g in enumerate(gradients(9), start=1):
        before = [p.detach().clone() for p in ours]
        micro_step(optimizer, ours, g)
        assert optimizer.moved == (t % 3 == 0)
        for p, old in zip(ours, before, strict=True):
            assert torch.equal(p, old) != (t % 3 == 0)


@pytest.mark.parametrize(
    ("mean", "k", "ratio"), [(1, 4, 1.60), (1, 16, 1.88), (0, 4, 4.0), (0, 16, 16.0)]
)
def test_the_published_second_moment_is_too_large_by_the_law(
    mean: float, k: int, ratio: float
) -> None:
    p = torch.zeros(200_000).requires_grad_()
    optimizer = AccumulatedAdamW([p], window=k, betas=(0.0, 0.0))
    total = torch.zeros_like(p)
    for _ in range(k):
        g = mean + torch.randn(200_000)
        micro_step(optimizer, [p], [g])
        total += g
    true = (total / k).square().mean()
    assert optimizer.state[p]["exp_avg_sq"].mean() / true == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize("k", [4, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0, 3.0])
def test_corrected_steps_are_those_of_the_true_second_moment(signal: float, k: int) -> None:
    # Median |step / true step - 1| over coordinates. The published rule's: one minus the root of
    # the ratio of moments.
    published = 1 - math.sqrt((signal**2 + 1 / k) / (signal**2 + 1))
    steps = {}
    for name in ("true", "plain", "corrected"):
        torch.manual_seed(3)
        p = torch.zeros(4000).requires_grad_()
        window = {"window": 1} if name == "true" else {"window": k, "second_moment": name}
        optimizer = AccumulatedAdamW(
            [p], lr=1.0, betas=(0.9, 0.99), eps=0.0, weight_decay=0.0, **window
        )
        for _ in range(150):
            grads = [signal + torch.randn(4000) for _ in range(k)]
            before = p.detach().clone()
            for g in [sum(grads) / k] if name == "true" else grads:
                micro_step(optimizer, [p], [g])
        steps[name] = p.detach() - before
    error = {
        name: (steps[name] / steps["true"] - 1).abs().median().item()
        for name in ("plain", "corrected")
    }
    assert error["plain"] == pytest.approx(published, abs=0.03)
    assert error["corrected"] < 0.07


@pytest.mark.parametrize("k", [1, 4])
def test_a_constant_gradient_makes_a_first_step_of_the_learning_rate(k: int) -> None:
    ours = parameters()
    (g,) = gradients(1)
    start = [p.detach().clone() for p in ours]
    optimizer = AccumulatedAdamW(ours, lr=0.1, eps=0.0, weight_decay=0.0, window=k)
    for _ in range(k):
        micro_step(optimizer, ours, g)
    for p, old, x in zip(ours, start, g, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.1 * x.sign())


def test_slower_decays_alone_approximate_the_momentum_to_second_order() -> None:
    # The recipe for an optimizer one cannot change: beta -> 1 - (1 - beta) / k, here 0.99 and k =
    # 8.
    grads = [torch.randn(1000) + 1 for _ in range(400)]
    p = torch.zeros(1000).requires_grad_()
    exact = AccumulatedAdamW([p], betas=(0.99, 0.99), window=8)
    slower = torch.zeros(1000)
    for g in grads:
        micro_step(exact, [p], [g])
        slower.lerp_(g, 0.01 / 8)
    m = exact.state[p]["exp_avg"]
    assert 1e-5 < ((slower - m).norm() / m.norm()).item() < 0.01


@every
@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_state_saved_in_mid_window_continues_bit_for_bit(
    name: str, stop: int, tmp_path: Path
) -> None:
    grads = gradients(9)
    results = []
    for interrupted in (False, True):
        ours = parameters(torch.float32)
        optimizer = FAMILY[name](ours, window=3)
        for t, g in enumerate(grads):
            if interrupted and t == stop:
                save_state(optimizer.state_dict(), tmp_path / "state.pt")
                ours = [p.detach().clone().requires_grad_() for p in ours]
                optimizer = FAMILY[name](ours, window=3)
                optimizer.load_state_dict(load_state(tmp_path / "state.pt"))
            micro_step(optimizer, ours, [x.float() for x in g])
        results.append(ours)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))


def test_a_loaded_state_is_a_copy_in_the_precision_it_had() -> None:
    ours = parameters(torch.bfloat16)
    first = AccumulatedAdamW(ours, window=2)
    micro_step(first, ours, gradients(1, torch.bfloat16)[0])
    second = AccumulatedAdamW(ours, window=2)
    second.load_state_dict(first.state_dict())
    for p in ours:
        m = first.state[p]["exp_avg"]
        copy = second.state[p]["exp_avg"]
        assert m.dtype == copy.dtype == torch.float32
        assert torch.equal(m, copy)
        assert m.data_ptr() != copy.data_ptr()


def test_half_precision_gradients_fold_without_loss() -> None:
    # In bfloat16, with 8 bits, a sixteenth of a tenth would vanish beside the momentum.
    p = torch.ones(1, dtype=torch.bfloat16).requires_grad_()
    optimizer = AccumulatedAdamW([p], lr=0.5, window=16, weight_decay=0.0)
    for _ in range(160):
        micro_step(optimizer, [p], [torch.ones(1, dtype=torch.bfloat16)])
    assert optimizer.state[p]["exp_avg"].item() == pytest.approx(1 - 0.9**10, rel=1e-5)
    assert p.dtype == torch.bfloat16
    assert p.item() == pytest.approx(-4, abs=0.1)


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_left_out_and_the_mean_is_of_the_others(
    name: str, bad: float
) -> None:
    ours = parameters()
    theirs = parameters()
    grads = gradients(10)
    folded = FAMILY[name](ours, window=4)
    reference = FAMILY[name](theirs, window=3)
    for t, g in enumerate(grads[:3]):
        if t == 1:
            held = [
                {k: v for k, v in folded.state[p].items() if isinstance(v, Tensor)} for p in ours
            ]
            held = [{k: v.clone() for k, v in each.items()} for each in held]
            micro_step(folded, ours, [torch.full_like(p, bad) for p in ours])
            for p, before in zip(ours, held, strict=True):
                assert all(torch.equal(folded.state[p][k], v) for k, v in before.items())
        micro_step(folded, ours, g)
        micro_step(reference, theirs, g)
    for p, q in zip(
        ours, theirs, strict=True
    ):  # exact, for a first window's average holds nothing else
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert all(p.isfinite().all() for p in ours)
    before = [p.detach().clone() for p in ours]
    for _ in range(4):
        micro_step(folded, ours, [torch.full_like(p, bad) for p in ours])
    assert all(torch.equal(p, old) for p, old in zip(ours, before, strict=True))
    assert folded.moved


@every
def test_a_window_that_ends_early_moves_on_the_mean_of_what_it_has(name: str) -> None:
    ours = parameters()
    theirs = parameters()
    grads = gradients(3)
    folded = FAMILY[name](ours, window=5)
    whole = FAMILY[name](theirs, window=3)
    folded.finish()  # no window is open: nothing to do
    for g in grads:
        micro_step(folded, ours, g)
        micro_step(whole, theirs, g)
    assert not folded.moved
    folded.finish()
    assert folded.moved
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_a_short_window_keeps_each_gradients_weight_and_the_total() -> None:
    p = torch.zeros(2).requires_grad_()
    optimizer = AccumulatedAdamW([p], betas=(0.5, 0.5), window=4)
    first = torch.tensor([1.0, 0.0])
    second = torch.tensor([0.0, 1.0])
    for _ in range(4):
        micro_step(optimizer, [p], [first])
    for _ in range(2):
        micro_step(optimizer, [p], [second])
    optimizer.finish()
    # Weights 0.25 for the first window and 0.25 = 2 / 4 of 0.5 for the half one, brought to the
    # 0.75 of two windows.
    torch.testing.assert_close(optimizer.state[p]["exp_avg"], torch.tensor([0.375, 0.375]))


def test_the_window_can_change_only_between_windows() -> None:
    ours = parameters()
    (g, h, *_) = gradients(2)
    optimizer = AccumulatedSGD(ours, window=3)
    micro_step(optimizer, ours, g)
    optimizer.param_groups[0]["window"] = 2
    with pytest.raises(
        InputError,
        match=r"AccumulatedSGD: the window can change.*window=2 inside one of 3; call fini",
    ):
        micro_step(optimizer, ours, h)
    optimizer.param_groups[0]["window"] = 3
    optimizer.finish()
    optimizer.param_groups[0]["window"] = 2
    before = ours[0].detach().clone()
    for _ in range(2):
        micro_step(optimizer, ours, h)
    assert not torch.equal(ours[0], before)


@every
def test_sparse_gradients_decay_every_row(name: str) -> None:
    results = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=sparse)
        optimizer = FAMILY[name](table.parameters(), window=2)
        for ids in ([0, 1, 1], [2, 1, 0], [3, 3, 3], [4, 0, 1]):
            table(torch.tensor(ids)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(table.weight.detach())
    assert torch.equal(*results)


@every
def test_a_parameter_without_gradient_rests_and_one_seen_once_takes_a_share(name: str) -> None:
    ours = parameters()
    optimizer = FAMILY[name](ours, window=2)
    start = [p.detach().clone() for p in ours]
    first, second = gradients(2)
    ours[0].grad = first[0].clone()
    optimizer.step()
    ours[0].grad = second[0].clone()
    ours[1].grad = second[1].clone()
    optimizer.step()
    assert [torch.equal(p, old) for p, old in zip(ours, start, strict=True)] == [False, False, True]
    assert ours[2] not in optimizer.state
    twin = [p.detach().clone().requires_grad_() for p in start[1:2]]
    other = FAMILY[name](twin, window=2)
    for g in (torch.zeros_like(second[1]), second[1]):  # a missing gradient counts as zero
        micro_step(other, twin, [g])
    assert torch.equal(twin[0], ours[1])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.mix = nn.Linear(4, 4)
        self.out = nn.Linear(4, 9)
        self.out.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return F.cross_entropy(self.out(self.mix(self.embed(ids)).tanh()), ids.roll(1))


def tied() -> Tied:
    torch.manual_seed(5)
    return Tied()


def batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    return [torch.randint(0, 9, (8,), generator=generator) for _ in range(count)]


@every
def test_folding_in_the_backward_pass_changes_no_bit_and_keeps_no_gradient(name: str) -> None:
    whole = tied()
    folded = tied()
    a = FAMILY[name](whole.parameters(), window=2)
    b = FAMILY[name](folded.parameters(), window=2)
    folding = accumulate_in_backward(b)
    alive = []
    for p in folded.parameters():  # runs after the hook that folds
        p.register_post_accumulate_grad_hook(
            lambda p: alive.append(sum(q.grad is not None for q in b_params))
        )
    b_params = list(folded.parameters())
    for ids in batches(4):
        a.zero_grad()
        for model in (whole, folded):
            model(ids).backward()
        a.step()
        b.step()
    for p, q in zip(whole.parameters(), folded.parameters(), strict=True):
        assert torch.equal(p, q)
        assert q.grad is None
    assert set(alive) == {0}
    assert len(alive) == 4 * 4  # tied weights fold once
    folding.remove()
    folded(batches(1)[0]).backward()
    assert all(p.grad is not None for p in folded.parameters())


_SCRIPT = """
import gc, os, sys, torch
sys.path.insert(0, {tests!r})
torch.set_default_dtype(torch.float64)
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from test_accumulated import *
dist.init_process_group("gloo")
rank, name, way = dist.get_rank(), *sys.argv[1:3]
model = tied()
wrapped = DistributedDataParallel(model)
optimizer = FAMILY[name](model.parameters(), window=2)
if way == "folded":
    accumulate_in_backward(optimizer, processes=2)
for ids in batches(8)[rank::2]:
    if way == "folded":
        with wrapped.no_sync():
            wrapped(ids).backward()
    else:
        optimizer.zero_grad()
        wrapped(ids).backward()
    optimizer.step()
if rank == 0:
    torch.save([p.detach() for p in model.parameters()], sys.argv[3])
dist.barrier()
del wrapped, model, optimizer  # what holds threads of the group must not outlive it
gc.collect()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), [("adamw", "folded"), ("tiger", "averaged")])
def test_two_processes_equal_one(name: str, way: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = _SCRIPT.format(tests=str(Path(__file__).parent))
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    common["PYTHONPATH"] = str(Path(__file__).parents[3])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, name, way, str(tmp_path / "weights.pt")],
            env=os.environ | common | {"RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    model = tied()
    optimizer: Windowed = FAMILY[name](model.parameters(), window=4 if way == "folded" else 2)
    together = batches(8)
    for t in range(0, 8, 2):
        if way == "folded":  # every micro-gradient by itself: a window of k W
            for ids in together[t : t + 2]:
                optimizer.zero_grad()
                model(ids).backward()
                optimizer.step()
        else:  # gradients averaged over the processes before the optimizer sees them
            optimizer.zero_grad()
            (sum(model(ids) for ids in together[t : t + 2]) / 2).backward()
            optimizer.step()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    for p, q in zip(model.parameters(), torch.load(tmp_path / "weights.pt"), strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: AccumulatedSGD(p, window=0),
            "AccumulatedSGD: window must be a whole number of 1 or more; got window=0",
        ),
        (lambda p: AccumulatedSGD(p, window=1.5), "window must be a whole number"),
        (
            lambda p: AccumulatedSGD(p, momentum=1.0),
            r"momentum must be in \[0, 1\); got momentum=1.0",
        ),
        (
            lambda p: AccumulatedAdamW(p, lr=-1.0),
            "AccumulatedAdamW: lr must be 0 or more; got lr=-1.0",
        ),
        (lambda p: AccumulatedAdamW(p, lr=math.nan), "lr must be"),
        (lambda p: AccumulatedAdamW(p, betas=(0.9, 1.0)), "betas must be in"),
        (lambda p: AccumulatedAdamW(p, eps=-1.0), "eps must be 0 or more"),
        (
            lambda p: AccumulatedAdamW(p, second_moment="none"),
            "second_moment must be corrected or unbiased or summed or plain",
        ),
        (lambda p: Tiger(p, beta=-0.1), "Tiger: beta must be in"),
        (lambda p: Tiger(p, weight_decay=-0.1), "weight_decay must be 0 or more"),
    ],
)
def test_values_outside_their_range_are_refused(make: Any, message: str, unchecked: None) -> None:
    with pytest.raises(InputError, match=message):
        make(parameters())


TORCHS: list[tuple[type[Windowed], Any, dict[str, Any]]] = [
    (
        AccumulatedAdamW,
        partial(torch.optim.AdamW, fused=True),
        {"lr": 0.03, "weight_decay": 0.1, "betas": (0.8, 0.95)},
    ),
    (AccumulatedAdamW, partial(torch.optim.Adam, fused=True), {"lr": 0.03}),
    (AccumulatedSGD, torch.optim.SGD, {"lr": 0.03, "weight_decay": 0.1, "momentum": 0.8}),
    (AccumulatedSGD, torch.optim.SGD, {"lr": 0.03}),
]


@pytest.mark.parametrize(("ours", "theirs", "options"), TORCHS)
def test_the_state_of_torchs_own_continues_bit_for_bit(
    ours: Any, theirs: Any, options: dict[str, Any]
) -> None:
    grads = gradients(6, torch.float32)
    plain = parameters(torch.float32)
    other = theirs(plain, **options)
    for g in grads[:3]:
        micro_step(other, plain, g)
    again = [p.detach().clone().requires_grad_() for p in plain]
    optimizer = ours(again, window=1)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    for g in grads[3:]:
        micro_step(other, plain, g)
        micro_step(optimizer, again, g)
    assert all(torch.equal(p, q) for p, q in zip(plain, again, strict=True))
    assert optimizer.param_groups[0]["lr"] == 0.03
    windowed = ours(again, window=4)
    windowed.load_state_dict(other.state_dict())
    assert windowed.param_groups[0]["window"] == 4
    assert windowed.moved


def saved(kind: Any, shape: tuple[int, ...] = (3,), **options: Any) -> dict[str, Any]:
    p = torch.zeros(shape).requires_grad_()
    optimizer = kind([p], **options)
    p.grad = torch.ones(shape)
    optimizer.step()
    return optimizer.state_dict()


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (
        AccumulatedAdamW,
        saved(torch.optim.AdamW, amsgrad=True),
        "amsgrad=False; got amsgrad=True; load a",
    ),
    (
        AccumulatedAdamW,
        saved(torch.optim.Adam, weight_decay=0.1),
        "decoupled decay; got Adam's weight_decay=0.1",
    ),
    (
        AccumulatedSGD,
        saved(torch.optim.SGD, momentum=0.9, nesterov=True),
        "nesterov=False; got nesterov=True",
    ),
    (
        AccumulatedSGD,
        saved(torch.optim.SGD, momentum=0.9, dampening=0.1),
        "dampening=0; got dampening=0.1",
    ),
    (AccumulatedAdamW, saved(torch.optim.SGD), "its options; got a group without betas, eps"),
    (AccumulatedAdamW, saved(Tiger), "its options; got a group without betas, eps"),
    (Tiger, saved(torch.optim.AdamW), "its options; got a group without beta"),
    (EGDD, saved(Tiger), "its options; got a group without"),
    (
        AccumulatedAdamW,
        saved(AccumulatedAdamW, (4,)),
        r"exp_avg of shape \(3,\) for parameter 0; got \(4,\)",
    ),
    (
        AccumulatedAdamW,
        saved(torch.optim.AdamW, (2,)),
        r"exp_avg of shape \(3,\) for parameter 0; got \(2,\)",
    ),
    (EGDD, saved(EGDD, (4,)), r"gain of shape \(3,\) for parameter 0; got \(4,\)"),
]


@pytest.mark.parametrize(("kind", "state", "message"), REFUSED)
def test_the_state_of_another_optimizer_is_refused_and_changes_nothing(
    kind: Any, state: Any, message: str
) -> None:
    p = torch.zeros(3).requires_grad_()
    optimizer = kind([p], lr=0.5)
    with pytest.raises(InputError, match=f"{kind.__name__}: the saved state must have .*{message}"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert not optimizer.state


def test_a_state_of_other_groups_or_with_missing_names_is_refused() -> None:
    state = saved(AccumulatedAdamW)
    p = torch.zeros(3).requires_grad_()
    q = torch.zeros(3).requires_grad_()
    for groups, sizes in (([p, q], "[2]"), ([{"params": [p]}, {"params": [q]}], "[1, 1]")):
        message = f"must have groups of {sizes} parameters; got groups of [1]"
        with pytest.raises(InputError, match=re.escape(message)):
            AccumulatedAdamW(groups).load_state_dict(state)
    del state["state"][0]["exp_avg_sq"]
    with pytest.raises(
        InputError, match="must have exp_avg, exp_avg_sq, open, skipped, step of parameter 0; got"
    ):
        AccumulatedAdamW([p]).load_state_dict(state)


@every
@pytest.mark.parametrize("window", [np.int64(2), np.int32(2), np.uint8(2), torch.tensor(2)])
def test_any_integer_is_a_window(name: str, window: Any) -> None:
    ours = parameters()
    theirs = parameters()
    first = FAMILY[name](ours, window=window)
    second = FAMILY[name](theirs, window=2)
    for g in gradients(4):
        micro_step(first, ours, g)
        micro_step(second, theirs, g)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    assert type(first.param_groups[0]["window"]) is int
    assert first.state_dict() is not None
    first.add_param_group({"params": [torch.zeros(2).requires_grad_()], "window": np.int64(3)})
    assert type(first.param_groups[-1]["window"]) is int


@every
@pytest.mark.parametrize("window", [np.int64(0), 1.5, np.float64(2.0), True, "2", None])
def test_what_is_no_whole_number_is_no_window(name: str, window: Any, unchecked: None) -> None:
    rule = "window must be a whole number of 1 or more"
    with pytest.raises(InputError, match=rule):
        FAMILY[name](parameters(), window=window)
    with pytest.raises(InputError, match=rule):
        FAMILY[name]([{"params": parameters(), "window": window}])


def test_the_number_of_processes_is_a_whole_number(unchecked: None) -> None:
    with pytest.raises(
        InputError, match="processes must be a whole number of 1 or more; got processes=0"
    ):
        accumulate_in_backward(Tiger(parameters()), 0)
