"""Timing for benchmarks: contestants alternate, and ratios are computed within each round.

The speed of a machine drifts, but hardly within a round: quote ratios rather than times.
"""

import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from experiments.training.environment import environment
from univae.checkpoint import JsonObject, to_json

__all__ = ["compare", "machine", "peak_bytes", "report"]

CLOCKS: Mapping[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "cpu": time.process_time,  # of this process: other programs have less effect on it
}
FOLDERS = {"benchmark": "benchmarks", "study": "studies"}
MACHINE = ("cpu", "cores", "threads", "device", "torch", "python")
PEAK_FIELD = "VmHWM"  # of /proc/self/status: peak resident memory, in KiB


def compare(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = 15,
    warmup: int = 3,
    clock: Literal["wall", "cpu"] = "wall",
) -> dict[str, JsonObject]:
    """Time every contestant once per round, after ``warmup`` rounds that are not timed.

    The first contestant is the reference. Return, by name, ``milliseconds`` (median), ``quartiles``
    of the milliseconds, and ``ratio``, the time of the reference over that of the contestant; both
    as (lower quartile, median, upper quartile).
    """
    for _ in range(warmup):
        for run in contestants.values():
            run()

    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = now()
            run()
            seconds[name].append(now() - start)

    table: dict[str, JsonObject] = {}
    for name in contestants:
        milliseconds = [1e3 * duration for duration in seconds[name]]
        table[name] = {
            "milliseconds": statistics.median(milliseconds),
            "quartiles": _quartiles(milliseconds),
        }
    reference, *others = contestants
    for name in others:
        pairs = zip(seconds[reference], seconds[name], strict=True)
        ratios = [reference_seconds / other_seconds for reference_seconds, other_seconds in pairs]
        table[name]["ratio"] = _quartiles(ratios)
    return table


def _quartiles(values: list[float]) -> list[float]:
    """Return lower quartile, median and upper quartile; of one value it three times."""
    return statistics.quantiles(values, n=4) if len(values) > 1 else 3 * values


def peak_bytes() -> int:
    """Return the peak resident memory of this process so far, on Linux.

    ``getrusage`` would include the peak of the parent process before the fork.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(PEAK_FIELD):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status: no {PEAK_FIELD}")


def machine() -> JsonObject:
    """Return the properties of the machine and of the software that the times depend on."""
    versions = environment({})
    return {name: versions[name] for name in MACHINE}


def report(name: str, results: object, out: Path | None, kind: str = "benchmark") -> None:
    """Print results, command, date and machine as one JSON object; write it to ``out`` if given."""
    command = shlex.join(["python", "-m", f"experiments.{FOLDERS[kind]}.{name}", *sys.argv[1:]])
    content = {
        kind: name,
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "results": to_json(results),
    }
    text = json.dumps(content, indent=2)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    print(text)
