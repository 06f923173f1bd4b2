"""Step time of every optimizer here over ``torch.optim.AdamW(foreach=True)``, and the memory that folding saves.

Time: 10 million parameters in 200 tensors, gradients given; a window's update is compared with a
buffered one, that is the sum of as many gradients and a step of AdamW. Memory: peak resident bytes
of fresh processes that train a perceptron of 32 matrices, four micro-batches to an update, with
gradients summed in ``.grad`` or folded in the backward pass; with an allocator that gives freed
tensors back at once, so that the peak is of what was needed, and as it comes. ``python -m
experiments.benchmarks.optimizers``
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.backward_folding import accumulate_in_backward
from univae.optim.egdd import EGDD
from univae.optim.step_sizes import AdaptedSteps
from univae.optim.tiger import Tiger

TENSORS = 200
SIZE = (250, 200)
WINDOW = 4
# of the perceptron whose memory is measured
WIDTH = 1024
DEPTH = 32
BARS = {"AccumulatedAdamW": 1.1, "EGDD": 1.6}  # time over AdamW's
COPY = (0.95, 1.05)  # full gradient copies that folding must save


def _adapted(params: list[Tensor]) -> Optimizer:
    optimizer = AdamW(params, foreach=True)
    AdaptedSteps(optimizer)
    return optimizer


STEPS: dict[str, Callable[[list[Tensor]], Optimizer]] = {
    "AdamW(foreach=True)": lambda p: AdamW(p, foreach=True),
    "AdamW(fused=True)": lambda p: AdamW(p, fused=True),
    "AccumulatedAdamW": AccumulatedAdamW,
    "AccumulatedSGD": AccumulatedSGD,
    "Tiger": Tiger,
    "EGDD": EGDD,
    "EGDD, scales only": lambda p: EGDD(p, gain_lr=0.0),
    "AdaptedSteps around AdamW": _adapted,
}


def parameters() -> list[Tensor]:
    return [torch.randn(SIZE).requires_grad_() for _ in range(TENSORS)]


def steps(rounds: int) -> dict[str, Any]:
    """One step of each, on gradients that are there."""
    contestants = {}
    for name, make in STEPS.items():
        params = parameters()
        for p in params:
            p.grad = torch.randn_like(p)
        contestants[name] = make(params).step
    return _against_bars(compare(contestants, rounds))


def windows(rounds: int) -> dict[str, Any]:
    """An update of four micro-gradients: summed, then stepped on; or folded into the moments."""
    grads = [[torch.randn(SIZE) for _ in range(TENSORS)] for _ in range(WINDOW)]
    contestants = {"AdamW(foreach=True), buffered update": _buffered(grads)}
    for rule in ("corrected", "plain"):
        contestants[f"AccumulatedAdamW, update of a window, {rule}"] = _folded(grads, rule)
    return _against_bars(compare(contestants, rounds))


def _buffered(grads: list[list[Tensor]]) -> Callable[[], None]:
    params = parameters()
    buffer = [torch.zeros(SIZE) for _ in range(TENSORS)]
    optimizer = AdamW(params, foreach=True)
    for p, total in zip(params, buffer, strict=True):
        p.grad = total

    def update() -> None:
        torch._foreach_zero_(buffer)
        for micro in grads:
            torch._foreach_add_(buffer, micro, alpha=1 / WINDOW)
        optimizer.step()

    return update


def _folded(grads: list[list[Tensor]], rule: Any) -> Callable[[], None]:
    params = parameters()
    optimizer = AccumulatedAdamW(params, window=WINDOW, second_moment=rule)

    def update() -> None:
        for micro in grads:
            for p, g in zip(params, micro, strict=True):
                p.grad = g
            optimizer.step()

    return update


def _against_bars(table: dict[str, Any]) -> dict[str, Any]:
    for name, row in table.items():
        if "ratio" in row:
            row["time_over_reference"] = 1 / row["ratio"][1]
            row |= {"bar": BARS[name]} if name in BARS else {}
    return table


def memory(**allocator: str) -> dict[str, Any]:
    """Peak bytes of training with buffered and with folded gradients, in copies of all gradients."""
    command = [sys.executable, "-m", "experiments.benchmarks.optimizers", "--peak"]
    ways = ("weights", "torch", "buffered", "folded")
    variables = os.environ | allocator
    found = {
        way: json.loads(subprocess.check_output([*command, way], env=variables)) for way in ways
    }
    copy = DEPTH * WIDTH**2 * 4
    over = {way: (found[way] - found["weights"]) / copy for way in ways[1:]}
    saved = over["buffered"] - over["folded"]
    return {
        "copy_bytes": copy,
        "peak_bytes": found,
        "copies_over_weights": over,
        "copies_saved": saved,
    }


def train(way: str) -> int:
    """Peak resident bytes of this process after a few updates; ``weights``: of the model alone."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)))
    x = torch.randn(4, WIDTH)
    if way == "weights":
        model(x)
        return peak_bytes()
    if way == "torch":
        optimizer: Optimizer = AdamW(model.parameters(), foreach=True)
    else:
        optimizer = AccumulatedAdamW(model.parameters(), window=WINDOW if way == "folded" else 1)
    if way == "folded" and isinstance(optimizer, AccumulatedAdamW):
        accumulate_in_backward(optimizer)
    for micro_step in range(3 * WINDOW):
        (model(x).square().mean() / (1 if way == "folded" else WINDOW)).backward()
        if way == "folded":
            optimizer.step()
        elif micro_step % WINDOW == WINDOW - 1:
            optimizer.step()
            optimizer.zero_grad()
    return peak_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--peak", help="print the peak memory of one way to train, and nothing else"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.peak:
        print(train(arguments.peak))
        return
    results: dict[str, Any] = {
        "steps": steps(arguments.rounds),
        "windows": windows(arguments.rounds),
    }
    results["memory"] = {
        "bar": COPY,
        **memory(MALLOC_MMAP_THRESHOLD_="65536"),
        "default_allocator": memory(),
    }
    report("optimizers", results, arguments.out)


if __name__ == "__main__":
    main()
