"""Step time of every optimizer over ``torch.optim.AdamW(foreach=True)``, and memory of folding.

Time: 10 million parameters in 200 tensors, with gradients. AccumulatedAdamW is also compared with
``torch.optim.AdamW(fused=True)``, and its update of a window by every second moment with a buffered
update: a sum of as many gradients, and a step of AdamW; that in processor time of all threads, and
with the bytes that moments and sum take between two micro-batches. Memory: peak resident bytes of
new processes that train a perceptron of 32 matrices with four micro-batches per update, whose
gradients are summed in ``.grad`` or folded in the backward pass. It is measured with an allocator
that returns freed tensors at once, so that the peak is the memory in use, and with the default one.

``python -m experiments.benchmarks.optimizers``, or some ``--parts`` of it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from experiments.benchmarks.harness import compare, peak_bytes, report
from univae.checkpoint import JsonObject
from univae.optim.accumulated import AccumulatedAdamW, AccumulatedSGD
from univae.optim.backward_folding import accumulate_in_backward
from univae.optim.egdd import EGDD
from univae.optim.second_moments import SECOND_MOMENTS
from univae.optim.step_sizes import AdaptedSteps
from univae.optim.tiger import Tiger

TENSORS = 200
SIZE = (250, 200)
WINDOW = 4
WIDTH = 1024  # as DEPTH, of the perceptron whose memory is measured
DEPTH = 32
UPDATES = 3
STEP_BARS = {"AccumulatedAdamW": 1.1, "EGDD": 1.6}  # time over that of AdamW
FUSED_BARS = {"AccumulatedAdamW": 1.3}  # over that of its fused implementation
RULE_BARS = {"corrected": 1.3, "plain": 1.3}  # over that of the buffered update
BUFFERED = ("AdamW(foreach=True)", "AdamW(fused=True)")  # the first is the reference
COPY = (0.95, 1.05)  # copies of all gradients that folding must save
WEIGHTS = "weights"  # the process that only runs a forward pass
# an update of the parameters, and the tensors that are kept from one micro-batch to the next
Updates: TypeAlias = tuple[Callable[[], None], Callable[[], list[Tensor]]]
EAGER_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc returns larger blocks at once


def _adapted(params: list[Tensor]) -> Optimizer:
    optimizer = AdamW(params, foreach=True)
    AdaptedSteps(optimizer)
    return optimizer


STEPS: Mapping[str, Callable[[list[Tensor]], Optimizer]] = {
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
    """Return the parameters whose updates are timed."""
    return [torch.randn(SIZE).requires_grad_() for _ in range(TENSORS)]


def steps(rounds: int) -> JsonObject:
    """Time one step of each optimizer on existing gradients."""
    return _with_bars(compare(_contestants(tuple(STEPS)), rounds), STEP_BARS)


def fused(rounds: int) -> JsonObject:
    """Time one step of torch's fused AdamW and one of AccumulatedAdamW."""
    names = ("AdamW(fused=True)", "AccumulatedAdamW")
    return _with_bars(compare(_contestants(names), rounds), FUSED_BARS)


def _contestants(names: Sequence[str]) -> dict[str, Callable[[], object]]:
    contestants: dict[str, Callable[[], object]] = {}
    for name in names:
        params = parameters()
        for p in params:
            p.grad = torch.randn_like(p)
        contestants[name] = STEPS[name](params).step
    return contestants


def second_moments(rounds: int) -> JsonObject:
    """Time an update by four micro-gradients: summed before a step of AdamW, or folded by a rule.

    ``bytes_per_parameter`` are those of the moments and of the sum.
    """
    grads = [[torch.randn(SIZE) for _ in range(TENSORS)] for _ in range(WINDOW)]
    updates = {}
    for name in BUFFERED:
        updates[f"{name}, summed gradients"] = _buffered(grads, name)
    for rule in SECOND_MOMENTS:
        updates[rule] = _folded(grads, rule)
    contestants = {name: update for name, (update, _) in updates.items()}
    table = _with_bars(compare(contestants, rounds, clock="cpu"), RULE_BARS)
    for name, (_, tensors) in updates.items():
        table[name]["bytes_per_parameter"] = _bytes(tensors()) / (TENSORS * SIZE[0] * SIZE[1])
    return table


def _buffered(grads: list[list[Tensor]], name: str) -> Updates:
    params = parameters()
    buffer = [torch.zeros(SIZE) for _ in range(TENSORS)]
    optimizer = STEPS[name](params)
    for p, total in zip(params, buffer, strict=True):
        p.grad = total

    def update() -> None:
        torch._foreach_zero_(buffer)
        for micro_grads in grads:
            torch._foreach_add_(buffer, micro_grads, alpha=1 / WINDOW)
        optimizer.step()

    return update, lambda: [*_state_tensors(optimizer), *buffer]


def _folded(grads: list[list[Tensor]], rule: str) -> Updates:
    params = parameters()
    optimizer = AccumulatedAdamW(params, window=WINDOW, second_moment=rule)

    def update() -> None:
        for micro_grads in grads:
            for p, g in zip(params, micro_grads, strict=True):
                p.grad = g
            optimizer.step()

    return update, lambda: _state_tensors(optimizer)


def _state_tensors(optimizer: Optimizer) -> list[Tensor]:
    states = optimizer.state.values()
    return [x for state in states for x in state.values() if isinstance(x, Tensor) and x.ndim > 0]


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(x.nbytes for x in tensors)


def _with_bars(table: dict[str, JsonObject], bars: Mapping[str, float]) -> JsonObject:
    for name, row in table.items():
        if "ratio" in row:
            row["time_over_reference"] = 1 / row["ratio"][1]
            if name in bars:
                row["bar"] = bars[name]
    return table


def memory(variables: Mapping[str, str]) -> JsonObject:
    """Return the peak bytes of every training method, also in copies of all gradients.

    ``variables`` are added to the environment of the processes.
    """
    command = [sys.executable, "-m", "experiments.benchmarks.optimizers", "--peak"]
    peaks: dict[str, int] = {}
    for method in TRAINING:
        output = subprocess.check_output([*command, method], env=os.environ | variables)
        peaks[method] = json.loads(output)

    copy = DEPTH * WIDTH**2 * 4
    weights = peaks[WEIGHTS]
    copies = {}
    for method, method_peak in peaks.items():
        if method != WEIGHTS:
            copies[method] = (method_peak - weights) / copy
    return {
        "copy_bytes": copy,
        "peak_bytes": peaks,
        "copies_over_weights": copies,
        "copies_saved": copies["buffered"] - copies["folded"],
    }


def _only_weights(model: nn.Module, x: Tensor) -> None:
    model(x)


def _with_torch(model: nn.Module, x: Tensor) -> None:
    _accumulate(model, x, AdamW(model.parameters(), foreach=True))


def _with_buffer(model: nn.Module, x: Tensor) -> None:
    _accumulate(model, x, AccumulatedAdamW(model.parameters(), window=1))


def _accumulate(model: nn.Module, x: Tensor, optimizer: Optimizer) -> None:
    """Train on gradients summed in ``.grad``."""
    for _ in range(UPDATES):
        for _ in range(WINDOW):
            (model(x).square().mean() / WINDOW).backward()
        optimizer.step()
        optimizer.zero_grad()


def _with_folding(model: nn.Module, x: Tensor) -> None:
    optimizer = AccumulatedAdamW(model.parameters(), window=WINDOW)
    accumulate_in_backward(optimizer)
    for _ in range(UPDATES * WINDOW):
        model(x).square().mean().backward()
        optimizer.step()


TRAINING: Mapping[str, Callable[[nn.Module, Tensor], None]] = {
    WEIGHTS: _only_weights,
    "torch": _with_torch,
    "buffered": _with_buffer,
    "folded": _with_folding,
}


def train(method: str) -> int:
    """Return the peak resident bytes of this process after a few updates by a training method."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)))
    TRAINING[method](model, torch.randn(4, WIDTH))
    return peak_bytes()


def _memory_of_folding(rounds: int) -> JsonObject:
    return {"bar": COPY, **memory(EAGER_ALLOCATOR), "default_allocator": memory({})}


PARTS: Mapping[str, Callable[[int], JsonObject]] = {
    "steps": steps,
    "fused": fused,
    "second_moments": second_moments,
    "memory": _memory_of_folding,
}


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each optimizer")
    parser.add_argument(
        "--peak",
        choices=tuple(TRAINING),
        help="only print the peak memory of this training method",
    )
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    if arguments.peak:
        print(train(arguments.peak))
        return
    results = {part: PARTS[part](arguments.rounds) for part in arguments.parts}
    report("optimizers", results, arguments.out)


if __name__ == "__main__":
    main()
