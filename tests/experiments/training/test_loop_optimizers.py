"""Every optimizer in the training loop: windows, step sizes, resuming, several processes."""

import math
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import SETTINGS, TIMING, Run, Toy, assert_equal, everything, start, train

from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.settings import Settings
from experiments.training.stopping import Interrupted
from univae.checkpoint import load_state
from univae.errors import InputError

SGD = replace(SETTINGS, optimizer="sgd", steps=4, ema=0.0, clip=0.0, lr=0.02)


def weights(task: Toy) -> list[torch.Tensor]:
    return [p.detach() for p in task.module.parameters()]


@pytest.mark.parametrize(
    "clip", [0.0, 1e9]
)  # folded in the backward pass, and in the optimizer's step
def test_a_window_of_sgd_is_the_step_of_its_summed_gradients(tmp_path: Path, clip: float) -> None:
    _, whole, first = train(tmp_path / "whole", replace(SGD, accumulate=6))
    _, parts, second = train(tmp_path / "parts", replace(SGD, accumulate=1, window=6, clip=clip))
    for p, q in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-12)
    for a, b in zip(first.rows("train"), second.rows("train"), strict=True):
        keys = [k for k in a if k not in (*TIMING, "gradient_norm")]
        assert [a[k] for k in keys] == pytest.approx([b[k] for k in keys])
        assert (b["gradient_norm"] is None) == (clip == 0)


def test_folding_in_the_backward_pass_changes_no_bit(tmp_path: Path) -> None:
    common = replace(SGD, optimizer="adamw", accumulate=1, window=3)
    tasks = [train(tmp_path / str(clip), replace(common, clip=clip))[1] for clip in (0.0, 1e9)]
    for p, q in zip(*map(weights, tasks), strict=True):
        assert torch.equal(p, q)
    assert all(p.grad is None for p in tasks[0].module.parameters())
    assert all(p.grad is not None for p in tasks[1].module.parameters())


def test_every_micro_step_of_a_window_is_clipped(tmp_path: Path) -> None:
    _, task, run = train(
        tmp_path / "run",
        replace(SGD, beta1=0.0, clip=1e-6, window=2, steps=1, log_every=1, weight_decay=0.0),
    )
    moved = torch.cat(
        [(p - q).flatten() for p, q in zip(weights(task), weights(Toy()), strict=True)]
    )
    (row,) = run.rows("train")
    # less than one full step, unless the two agree
    assert 0 < moved.norm() <= row["lr"] * 1e-6 * 1.0001
    assert row["gradient_norm"] > 1e-3


VARIANTS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "tiger": {"optimizer": "tiger", "lr": 0.005, "window": 2},
    "egdd": {"optimizer": "egdd"},
    "adamw corrected": {"window": 2, "accumulate": 1, "clip": 0.0},
    "adamw plain": {"window": 2, "second_moment": "plain"},
    "adamw scale": {"adapt_step_size": "scale"},
    "tiger gain": {"optimizer": "tiger", "lr": 0.005, "window": 2, "adapt_step_size": "gain"},
    "adamw halves": {"adapt_step_size": "gain", "adapt_halves": True},
}


SIBLINGS = ("tiger", "adamw plain", "adamw scale")  # of variants that do the same and more


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SIBLINGS else []) for name in VARIANTS],
)
def test_every_optimizer_resumes_to_the_same_bits_and_learns(tmp_path: Path, name: str) -> None:
    settings = replace(SETTINGS, steps=8, log_every=4, validate_every=4, **VARIANTS[name])
    _, whole, first = train(tmp_path / "whole", settings)
    task = Toy()
    task.hooks[4] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", settings, task)
    _, part, second = train(tmp_path / "parts", replace(settings, resume=True))
    assert_equal(everything(first), everything(second))
    for p, q, start_ in zip(weights(whole), weights(part), weights(Toy()), strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, start_)
    rows = first.rows("train")
    assert ("scale_median" in rows[-1]) == (name == "egdd" or "adapt_step_size" in VARIANTS[name])
    assert ("gain_median" in rows[-1]) == (
        name == "egdd" or VARIANTS[name].get("adapt_step_size") == "gain"
    )


def test_the_settings_reach_the_optimizer() -> None:
    world = World(0, 1, torch.device("cpu"))
    common = {"beta1": 0.7, "weight_decay": 0.3, "scale_lr": 0.2, "gain_lr": 0.4, "accumulate": 2}
    steppers = {
        name: GradientSteps(Toy(), Settings(**common | options), world)
        for name, options in VARIANTS.items()
    }
    groups = {name: stepper.optimizer.param_groups for name, stepper in steppers.items()}
    kinds = {"sgd": "AccumulatedSGD", "tiger": "Tiger", "egdd": "EGDD", "tiger gain": "Tiger"}
    kinds |= {"adamw corrected": "AccumulatedAdamW", "adamw plain": "AccumulatedAdamW"}
    kinds |= {"adamw scale": "AdamW", "adamw halves": "AdamW"}
    assert {name: type(s.optimizer).__name__ for name, s in steppers.items()} == kinds
    assert (
        groups["sgd"][0]["momentum"]
        == groups["egdd"][0]["momentum"]
        == groups["egdd"][0]["beta"]
        == 0.7
    )
    assert (
        groups["tiger"][0]["beta"]
        == groups["adamw plain"][0]["betas"][0]
        == groups["adamw scale"][0]["betas"][0]
        == 0.7
    )
    assert [group["weight_decay"] for group in groups["tiger"]] == [0.3, 0.0]  # matrices alone
    assert (groups["egdd"][0]["gain_lr"], groups["egdd"][0]["scale_lr"]) == (0.4, 0.2)
    assert [groups[f"adamw {kind}"][0]["second_moment"] for kind in ("corrected", "plain")] == [
        "corrected",
        "plain",
    ]
    adapted = {name: s.adapted for name, s in steppers.items() if s.adapted}
    assert {name: (a.scale_lr, a.gain_lr, a.halves) for name, a in adapted.items()} == {
        "adamw scale": (0.2, 0.0, False),
        "tiger gain": (0.2, 0.4, False),
        "adamw halves": (0.2, 0.4, True),
    }
    assert [name for name, s in steppers.items() if s.folds] == ["adamw corrected"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be adamw, sgd, tiger or egdd; got optimizer=lion"),
        ({"window": 0}, "window must be at least 1; got window=0"),
        ({"second_moment": "none"}, "second_moment must be corrected"),
        ({"adapt_step_size": "yes"}, "adapt_step_size must be no, scale or gain"),
        ({"scale_lr": math.nan}, "scale_lr must be 0 or more"),
        ({"gain_lr": -1.0}, "gain_lr must be 0 or more"),
        ({"optimizer": "egdd", "window": 2}, "window must be 1 with optimizer=egdd.*got window=2"),
        (
            {"optimizer": "egdd", "adapt_step_size": "scale"},
            "adapt_step_size must be no with optimizer=egdd",
        ),
        (
            {"adapt_halves": True, "accumulate": 2},
            "adapt_halves needs adapt_step_size=scale or gain.*=no",
        ),
        (
            {"adapt_halves": True, "adapt_step_size": "scale", "accumulate": 3},
            "an even accumulate.*accumulate=3",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    options: dict[str, Any], message: str, unchecked: None
) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**options)


@pytest.mark.parametrize("name", ["folded", pytest.param("halves", marks=pytest.mark.slow)])
def test_two_processes_equal_one_with_twice_the_batches(tmp_path: Path, name: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "folded": {"optimizer": "sgd", "window": 2, "clip": 0.0, "accumulate": 1},
        "halves": {"adapt_step_size": "scale", "adapt_halves": True, "scale_lr": 0.1},
    }
    settings = replace(SETTINGS, steps=3, ema=0.9, **options[name])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        start(tmp_path / "two", settings, RANK=rank, LOCAL_RANK=rank, **both) for rank in ("0", "1")
    ]
    _, one, _ = train(tmp_path / "one", replace(settings, accumulate=2 * settings.accumulate))
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    two = Toy().module
    two.load_state_dict(
        load_state(Run.open(tmp_path / "two").checkpoint("last") / "optimizer.pt")["weights"]
    )
    for p, q in zip(one.module.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)
