"""How benchmarks measure here: contestants in turn, the ratio round by round, and the median with its quartiles.

Machines drift; contestants timed in the same round drift together, so ratios are what to quote.
"""

import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from experiments.training.environment import environment
from univae.checkpoint import to_json

__all__ = ["compare", "machine", "peak_bytes", "report"]


def compare(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int = 15,
    warmup: int = 3,
    clock: Literal["wall", "cpu"] = "wall",
) -> dict[str, Any]:
    """Time every contestant once a round. The first is the reference: ratios are its time over theirs.

    By the clock on the wall, or by the processor time of this process, which other programs disturb
    less.

    Returns, by name, ``milliseconds`` (median) and ``ratio`` as (lower quartile, median, upper
    quartile).
    """
    for _ in range(warmup):
        for run in contestants.values():
            run()
    now = time.process_time if clock == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = now()
            run()
            seconds[name].append(now() - start)
    reference, *others = contestants
    table: dict[str, Any] = {
        name: {"milliseconds": 1e3 * statistics.median(s)} for name, s in seconds.items()
    }
    for name in others:
        ratios = [a / b for a, b in zip(seconds[reference], seconds[name], strict=True)]
        table[name]["ratio"] = statistics.quantiles(ratios, n=4)

    return table


def peak_bytes() -> int:
    """Peak resident memory of this process so far (Linux.

    ``getrusage`` would tell the parent's after a fork).
    """
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    found = environment({})
    return {name: found[name] for name in ("cpu", "cores", "threads", "device", "torch", "python")}


def report(name: str, results: Any, out: Path | None, kind: str = "benchmark") -> None:
    """Print the results of a benchmark, or of a study, as one JSON object.

    If asked, writes it with the command.
    """
    folder = {"benchmark": "benchmarks", "study": "studies"}[kind]
    command = shlex.join(["python", "-m", f"experiments.{folder}.{name}", *sys.argv[1:]])
    text = json.dumps(
        {kind: name, "command": command, "machine": machine(), "results": to_json(results)},
        indent=2,
    )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    print(text)
