"""Where the time of a training step goes, for each kind of training.

Every case is a training of a command with its own steps. For each, this measures

``milliseconds``       of a step, the median of the rounds and its quartiles
``shares``             of the step, by the kinds of :mod:`experiments.benchmarks.roofline_shares`;
                       they sum to 1
``largest``            the operators with the largest shares beside matrix products
``operations``         floating-point operations of a step, forward and backward
``machine_gigaflops``  10^9 operations a second of a float32 matrix product of the step's own size
                       (``own``) and of 1024 x 1024 matrices (``large``), with the same threads
``rate_over_machine``  operations a second of a step over those of both products, in the same
                       rounds, as (lower quartile, median, upper quartile)
``head_share``         the output head's share of the operations
``padded_share``       padding over all positions of the batches of an epoch of texts

A profiler makes steps slower, ``profiled_over_plain``: shares are those of profiled steps.

``python -m experiments.benchmarks.roofline``
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.harness import compare, report
from experiments.benchmarks.roofline_cases import CASES, Case, Sources, TrainingStep, prepare
from experiments.benchmarks.roofline_shares import KINDS, Shares, Span, shares
from experiments.data.text_sources import BUILT_IN
from experiments.training.distributed import World, pick_device
from univae.checkpoint import JsonObject
from univae.devices import is_cuda

__all__ = ["main", "measured", "profiled", "rates", "spans_of", "table"]

WARMUP = 3  # steps that are not measured
COUNTED = 3  # steps whose operations are counted
PROFILED = 500  # milliseconds of steps that are profiled, at least
LARGEST = 8  # operators that are reported
LARGE = (1024, 1024)  # rows and columns of the large matrix product
MOST_OPERATIONS = 2 * 1024**3  # of the products of one round


def measured(case: Case, sources: Sources, world: World, rounds: int) -> JsonObject:
    """Return the row of a case."""
    with tempfile.TemporaryDirectory() as folder:
        step = prepare(case, sources, Path(folder), world)
        for _ in range(WARMUP):
            step()
        times = _times(step, case, world.device, rounds)
        step.restart()
        operations, head_operations = step.operations(COUNTED)
        step.restart()
        milliseconds = times["step"]["milliseconds"]
        count = max(rounds, math.ceil(PROFILED / milliseconds))
        profile_shares = profiled(step, world.device, count)
        padded = step.padded_share()
    return {
        "milliseconds": milliseconds,
        "quartiles": times["step"]["quartiles"],
        "shares": profile_shares.kinds,
        "largest": _largest(profile_shares),
        "operations": operations,
        "machine_gigaflops": _gigaflops(times, case),
        "rate_over_machine": rates(times, operations, case),
        "head_share": head_operations / operations,
        "padded_share": padded,
        "profiled_over_plain": profile_shares.microseconds / 1e3 / milliseconds,
    }


def _times(
    step: TrainingStep, case: Case, device: torch.device, rounds: int
) -> dict[str, JsonObject]:
    """Return the times of a step and of both matrix products; see :func:`compare`."""
    contestants: dict[str, Callable[[], object]] = {"step": _finished(step, device)}
    for name, shape in (("own", case.product), ("large", LARGE)):
        contestants[name] = _finished(_product(shape, device), device)
    step.restart()
    return compare(contestants, rounds, warmup=0)


def _finished(run: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """Return a function that also waits for the kernels that it started."""

    def finished() -> None:
        run()
        if is_cuda(device):
            torch.cuda.synchronize(device)

    return finished


def _product(shape: tuple[int, int], device: torch.device) -> Callable[[], None]:
    """Return products of a float32 matrix (rows, columns) and a square one, several a round."""
    rows, columns = shape
    x = torch.rand(rows, columns, device=device)
    weight = torch.rand(columns, columns, device=device)

    def products() -> None:
        for _ in range(_repeats(shape)):
            x @ weight

    products()
    return products


def _repeats(shape: tuple[int, int]) -> int:
    return max(1, MOST_OPERATIONS // _operations(shape))


def _operations(shape: tuple[int, int]) -> int:
    rows, columns = shape
    return 2 * rows * columns**2


def _products(case: Case) -> dict[str, int]:
    """Return the operations of a round of both matrix products."""
    shapes = {"own": case.product, "large": LARGE}
    return {name: _operations(shape) * _repeats(shape) for name, shape in shapes.items()}


def _gigaflops(times: Mapping[str, JsonObject], case: Case) -> JsonObject:
    """Return the 10^9 operations a second of both matrix products."""
    gigaflops = {}
    for name, operations in _products(case).items():
        gigaflops[name] = operations / times[name]["milliseconds"] / 1e6
    return gigaflops


def rates(times: Mapping[str, JsonObject], operations: float, case: Case) -> JsonObject:
    """Return the quartiles of the rate of a step over those of both matrix products."""
    quartiles = {}
    for name, product_operations in _products(case).items():
        # the time of the step over that of the product
        lower, median, upper = times[name]["ratio"]
        ratios = (1 / upper, 1 / median, 1 / lower)
        quartiles[name] = [operations / product_operations * ratio for ratio in ratios]
    return quartiles


def profiled(step: TrainingStep, device: torch.device, count: int) -> Shares:
    """Return the shares of the time of ``count`` steps."""
    activities = [ProfilerActivity.CPU]
    if is_cuda(device):
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for _ in range(count):
            _finished(step, device)()
    return shares(spans_of(profiler), on_device=is_cuda(device))


def spans_of(profiler: Any) -> list[Span]:
    """Return the ranges and operators that PyTorch's profiler has seen."""
    spans = []
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CPU:
            times = event.time_range
            device_time = event.self_device_time_total
            span = Span(
                event.name, times.start, times.end, event.thread, event.sequence_nr, device_time
            )
            spans.append(span)
    return spans


def _largest(profile_shares: Shares) -> list[JsonObject]:
    """Return the operators with the largest shares beside matrix products."""
    rows: list[JsonObject] = []
    for (kind, operator), share in profile_shares.operators.items():
        if kind not in ("products", "head"):
            rows.append({"operator": operator, "kind": kind, "share": share})
    return sorted(rows, key=lambda row: -row["share"])[:LARGEST]


def table(rows: Mapping[str, JsonObject]) -> str:
    """Return the results as a table of text; shares are percentages."""
    columns = ("ms", *KINDS, "rate own", "rate large", "head ops", "padding")
    lines = [["case", *columns]]
    for name, row in rows.items():
        cells = [name, f"{row['milliseconds']:.1f}"]
        cells += [_percent(row["shares"][kind]) for kind in KINDS]
        cells += [f"{row['rate_over_machine'][size][1]:.2f}" for size in ("own", "large")]
        cells += [_percent(row["head_share"]), _percent(row["padded_share"])]
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ""
    for first, *others in lines:
        aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        text += "  ".join([first.ljust(widths[0]), *aligned]) + "\n"
    return text


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all cases; print a table to stderr and JSON to stdout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", default=BUILT_IN, help="a file of texts, one a line")
    parser.add_argument("--ptb", default=BUILT_IN, help="a file of sentences of words")
    parser.add_argument("--only", default="", help="the cases whose names begin so; empty: all")
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each case")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    world = World(0, 1, pick_device(options.device))
    sources = Sources(options.captions, options.ptb)
    rows: JsonObject = {}
    for name, case in CASES.items():
        if name.startswith(options.only):
            rows[name] = measured(case, sources, world, options.rounds)
            print(table(rows), file=sys.stderr)
    report("roofline", rows, options.out)


if __name__ == "__main__":
    main()
