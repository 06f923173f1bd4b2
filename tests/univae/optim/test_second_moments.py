"""Second moments of a window: unbiased ones, and AdamW's own in the memory of both averages."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_accumulated import batches, gradients, means, micro_step, parameters, tied
from torch import Tensor

from experiments.training.optimizer_state import restore
from univae.checkpoint import load_state, save_state
from univae.errors import InputError
from univae.optim.accumulated import AccumulatedAdamW
from univae.optim.cache_chunks import Scratch
from univae.optim.half_words import pack, round_stochastically, unpack
from univae.optim.second_moments import SECOND_MOMENTS, Moments, mean_noise

COORDINATES = 10_000


def effective(kind: str, signal: float, k: int, updates: int) -> float:
    """Return the mean second moment that a rule divides by, over coordinates with noise of 1."""
    beta1, beta2 = 0.9, 0.98
    generator = torch.Generator().manual_seed(4)
    m = torch.zeros(COORDINATES)
    v = torch.zeros(COORDINATES)
    for _ in range(updates):
        g = signal + torch.randn(k, COORDINATES, generator=generator)
        m = beta1 * m + (1 - beta1) * g.mean(0)
        square = g.mean(0) ** 2 if SECOND_MOMENTS[kind].of_summed else (g**2).mean(0)
        v = beta2 * v + (1 - beta2) * square
    noise = mean_noise(beta1, updates)
    moments = Moments([m], [v], 1 - beta1**updates, 1 - beta2**updates, noise)
    root, _ = SECOND_MOMENTS[kind].root(moments, k, Scratch())
    return root.square().mean().item()


@pytest.mark.parametrize("k", [4, 16])
@pytest.mark.parametrize("signal", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("updates", [1, 5, 60])
def test_the_unbiased_moment_has_the_expectation_of_adamws(
    signal: float, k: int, updates: int
) -> None:
    true = signal**2 + 1 / k
    # At s = 1 both are the squared mean: the same numbers, of 10,000 coordinates.
    reference = effective("summed", signal, k, updates) if updates == 1 else true
    assert effective("unbiased", signal, k, updates) == pytest.approx(reference, rel=0.02)


def test_the_corrected_moment_is_too_large_by_the_noise_of_the_mean() -> None:
    for updates in (5, 60):
        expected = 1 / 16 + mean_noise(0.9, updates) / 16 * (1 - 1 / 16)
        assert effective("corrected", 0.0, 16, updates) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("updates", [1, 2, 40])
def test_the_noise_of_a_mean_is_the_sum_of_its_squared_weights(updates: int) -> None:
    weights = torch.tensor([0.8**i for i in range(updates)])
    expected = (weights / weights.sum()).square().sum().item()
    assert mean_noise(0.8, updates) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 7), (torch.float64, 20)])
def test_rounding_is_unbiased_and_packing_then_exact(dtype: torch.dtype, bits: int) -> None:
    generator = torch.Generator().manual_seed(5)
    m = (1 + torch.rand(200_000, generator=generator, dtype=dtype)) * 3.3
    m[::2] *= -1
    v = m.square() * 1e-9
    rounded = [m.clone()], [v.clone()]
    round_stochastically(*rounded, step=7, scratch=Scratch())
    for exact, (halved,), unit in (
        (m, rounded[0], 2.0**-bits),
        (v, rounded[1], 2.0 ** -(bits + 1)),
    ):
        error = halved / exact - 1
        assert error.abs().max() <= unit
        assert error.std() > unit / 10
        assert error.mean().abs() < 5 * error.std() / len(error) ** 0.5
    (halved_m,), (halved_v,) = rounded
    words = halved_v.clone()
    emptied = halved_m.clone()
    pack([emptied], [words])
    assert not emptied.any()
    (m_again,), (v_again,) = unpack([words], Scratch())
    assert torch.equal(m_again, halved_m)
    assert torch.equal(v_again, halved_v)


def test_zeros_stay_zeros_and_the_noise_depends_on_the_step() -> None:
    m = torch.zeros(3, dtype=torch.float32)
    v = torch.zeros(3, dtype=torch.float32)
    round_stochastically([m], [v], 3, Scratch())
    assert not m.any()
    assert not v.any()
    ups = 0
    for step in range(1000):
        x = torch.tensor([1 + 2.0**-9], dtype=torch.float32)  # a quarter of the last bit above 1
        round_stochastically([x], [x.clone()], step, Scratch())
        ups += int(x.item() > 1)
    assert 180 < ups < 320


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 0.02), (torch.float64, 1e-5)])
@pytest.mark.parametrize("k", [2, 5])
def test_the_summed_moment_is_adamw_on_the_mean_gradient(
    dtype: torch.dtype, error: float, k: int
) -> None:
    ours = parameters(dtype)
    theirs = parameters(dtype)
    start = [p.detach().clone() for p in ours]
    options = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1}
    summed = AccumulatedAdamW(ours, window=k, second_moment="summed", **options)
    buffered = torch.optim.AdamW(theirs, **options)
    grads = gradients(20 * k, dtype)
    for t, mean in enumerate(means(grads, k)):
        for g in grads[t * k : (t + 1) * k]:
            micro_step(summed, ours, g)
        micro_step(buffered, theirs, mean)
    for p, q, begin in zip(ours, theirs, start, strict=True):
        assert ((p - q).norm() / (q - begin).norm()).item() < error
        for name in ("exp_avg", "exp_avg_sq"):
            ratio = summed.state[p][name] / buffered.state[q][name]
            assert (ratio - 1).abs().median() < 2 * error
    assert {len(state) for state in summed.state.values()} == {5}  # no third tensor


def test_a_second_moment_of_slow_decay_follows_a_change_below_its_last_bit() -> None:
    # From 1 to 4 by steps of 0.1% of the distance; 8 bits resolve 0.4%.
    p = torch.zeros(500, dtype=torch.float32).requires_grad_()
    optimizer = AccumulatedAdamW([p], lr=0.0, window=2, second_moment="summed")
    for size, updates in ((1.0, 10), (2.0, 300)):
        for _ in range(2 * updates):
            micro_step(optimizer, [p], [torch.full_like(p, size)])
    expected = 4 * (1 - 0.999**300) + (1 - 0.999**10) * 0.999**300
    assert optimizer.state[p]["exp_avg_sq"].mean().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("stop", [3, 4, 5])
def test_a_summed_window_is_saved_and_continued_bit_for_bit(stop: int, tmp_path: Path) -> None:
    results = []
    for interrupted in (False, True):
        ours = parameters(torch.float32)
        optimizer = AccumulatedAdamW(ours, window=3, second_moment="summed")
        for t, g in enumerate(gradients(12, torch.float32)):
            if interrupted and t == stop:
                save_state(optimizer.state_dict(), tmp_path / "state.pt")
                ours = [p.detach().clone().requires_grad_() for p in ours]
                optimizer = AccumulatedAdamW(ours, window=3, second_moment="summed")
                optimizer.load_state_dict(load_state(tmp_path / "state.pt"))
            micro_step(optimizer, ours, g)
        results.append(ours)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))


INSIDE = (
    r"AccumulatedAdamW: second_moment can change .*; got second_moment={} inside a window of {}"
)


@pytest.mark.parametrize(("opened", "other"), [("summed", "plain"), ("corrected", "summed")])
def test_the_second_moment_changes_to_or_from_summed_only_between_windows(
    opened: str, other: str
) -> None:
    message = INSIDE.format(other, opened) + r"; call finish\(\) before the change"
    ours = parameters()
    (g, *_) = gradients(1)
    optimizer = AccumulatedAdamW(ours, window=3, second_moment=opened)
    micro_step(optimizer, ours, g)
    saved = optimizer.state_dict()
    group = optimizer.param_groups[0]
    group["second_moment"] = other
    with pytest.raises(ValueError, match=message):
        micro_step(optimizer, ours, g)
    with pytest.raises(ValueError, match=message):
        optimizer.finish()
    with pytest.raises(ValueError, match=message):
        AccumulatedAdamW(ours, window=3, second_moment=other).load_state_dict(saved)
    changed = {**saved, "param_groups": [{**saved["param_groups"][0], "second_moment": other}]}
    with pytest.raises(ValueError, match=message):
        AccumulatedAdamW(ours, window=3, second_moment=other).load_state_dict(changed)

    group["second_moment"] = opened
    optimizer.finish()
    group["second_moment"] = other
    before = ours[0].detach().clone()
    for _ in range(3):
        micro_step(optimizer, ours, g)
    assert not torch.equal(ours[0], before)


def test_rules_of_one_memory_can_change_inside_a_window() -> None:
    ours = parameters()
    (g, *_) = gradients(1)
    optimizer = AccumulatedAdamW(ours, window=2, second_moment="corrected")
    micro_step(optimizer, ours, g)
    optimizer.param_groups[0]["second_moment"] = "plain"
    micro_step(optimizer, ours, g)
    assert optimizer.moved


def test_a_run_with_another_second_moment_does_not_read_a_summed_window() -> None:
    ours = parameters(torch.float32)
    (g, *_) = gradients(1, torch.float32)
    saving = AccumulatedAdamW(ours, window=3, second_moment="summed")
    micro_step(saving, ours, g)
    resumed = AccumulatedAdamW(ours, window=3, second_moment="plain")
    with pytest.raises(InputError, match=INSIDE.format("plain", "summed")):
        restore(resumed, saving.state_dict(), 1)


def test_a_window_saved_without_its_rule_is_continued() -> None:
    ours = parameters()
    (g, *_) = gradients(1)
    saving = AccumulatedAdamW(ours, window=2, second_moment="summed")
    micro_step(saving, ours, g)
    saved = saving.state_dict()
    del saved["param_groups"][0]["opened_with"]  # as version 0.2.0 wrote it
    resumed = AccumulatedAdamW(ours, window=2, second_moment="summed")
    resumed.load_state_dict(saved)
    micro_step(resumed, ours, g)
    assert resumed.moved


def adamw_on(ours: list[Tensor], grads: list[list[Tensor]]) -> list[Tensor]:
    buffered = torch.optim.AdamW(ours)
    for g in grads:
        micro_step(buffered, ours, g)
    return ours


def test_a_summed_window_that_ends_early_moves_on_the_mean_of_what_it_has() -> None:
    ours = parameters()
    grads = gradients(5)
    summed = AccumulatedAdamW(ours, window=3, second_moment="summed")
    for g in grads:
        micro_step(summed, ours, g)
    summed.finish()
    expected = adamw_on(parameters(), means(grads, 3)[:1] + means(grads[3:], 2))
    for p, q in zip(ours, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)


def test_a_summed_window_leaves_out_gradients_that_are_not_finite() -> None:
    ours = parameters()
    grads = gradients(3)
    summed = AccumulatedAdamW(ours, window=4, second_moment="summed")
    for g in [grads[0], [torch.full_like(p, torch.nan) for p in ours], *grads[1:]]:
        micro_step(summed, ours, g)
    for p, q in zip(ours, adamw_on(parameters(), means(grads, 3)), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)


def test_a_summed_window_of_one_is_torch_bit_for_bit() -> None:
    ours = parameters(torch.float32)
    theirs = parameters(torch.float32)
    summed = AccumulatedAdamW(ours, second_moment="summed")
    fused = torch.optim.AdamW(theirs, fused=True)
    for g in gradients(5, torch.float32):
        micro_step(summed, ours, g)
        micro_step(fused, theirs, g)
        assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


_SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_default_dtype(torch.float64)
import torch.distributed as dist
from test_accumulated import *
dist.init_process_group("gloo")
rank = dist.get_rank()
model = tied()
unused = torch.nn.Parameter(torch.ones(3))  # has a gradient in one process only
optimizer = AccumulatedAdamW([*model.parameters(), unused], window=2, second_moment="summed")
accumulate_in_backward(optimizer, processes=2)
for i, ids in enumerate(batches(8)[rank::2]):
    loss = model(ids)
    if rank == 0:
        loss = loss + (unused * (i + 1)).sum()
    loss.backward()
    optimizer.step()
if rank == 0:
    torch.save([p.detach() for p in [*model.parameters(), unused]], sys.argv[1])
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_sum_the_gradients_of_both(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    common |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    code = _SCRIPT.format(tests=str(Path(__file__).parent))
    processes = []
    for rank in ("0", "1"):
        command = [sys.executable, "-c", code, str(tmp_path / "weights.pt")]
        environment = os.environ | common | {"RANK": rank}
        processes.append(subprocess.Popen(command, env=environment))
    model = tied()
    unused = torch.nn.Parameter(torch.ones(3))
    buffered = torch.optim.AdamW([*model.parameters(), unused])
    together = batches(8)
    for t in range(0, 8, 4):
        buffered.zero_grad()
        (sum(model(ids) for ids in together[t : t + 4]) / 4).backward()
        unused.grad = torch.full((3,), (t / 2 + 1 + t / 2 + 2) / 4)
        buffered.step()
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    ours = torch.load(tmp_path / "weights.pt")
    for p, q in zip([*model.parameters(), unused], ours, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-6, atol=1e-8)
