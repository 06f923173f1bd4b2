"""Benchmarks as processes of their own, so that their memory is theirs and a failure ends one."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.registry import Benchmark
from univae.checkpoint import JsonObject

__all__ = ["Failed", "Measured", "measure", "missing_peers"]

ROOT = Path(__file__).parents[2]
PACKAGE = "experiments.benchmarks"
SLOWEST = 20.0  # times the minutes of a benchmark after which it is ended
REASON = 300  # characters of what a failed benchmark printed last


@dataclass(frozen=True)
class Measured:
    """The results of a benchmark that has run."""

    results: Any  # JSON
    seconds: float
    command: str

    def to_json(self) -> JsonObject:
        """Return the fields."""
        return {"command": self.command, "seconds": self.seconds, "results": self.results}


class Failed(RuntimeError):
    """A benchmark ended without results."""


def missing_peers(benchmark: Benchmark) -> str:
    """Return the lines that install the peers that are not here; nothing if all are."""
    absent = [peer for peer in benchmark.peers if importlib.util.find_spec(peer.module) is None]
    return "; ".join(peer.install for peer in absent)


def measure(name: str, benchmark: Benchmark, rounds: int, threads: int) -> Measured:
    """Run a benchmark, and return its results.

    Args:
        name: its module.
        benchmark: its row.
        rounds: timed repetitions; 0: its own number.
        threads: of PyTorch, where the benchmark does not use one.

    Raises:
        Failed: it ended with an error, whose message is what it printed last; it took more than
            :data:`SLOWEST` times its minutes; or its results cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        options = ["--rounds", str(rounds)] if rounds and benchmark.rounds else []
        command = ["-m", f"{PACKAGE}.{name}", *options]
        start = time.monotonic()
        limit = SLOWEST * benchmark.minutes
        try:
            done = subprocess.run(
                [sys.executable, *command, "--out", str(out)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=_environment(threads),
                cwd=folder,  # python -m imports from the working directory first
                check=False,
                timeout=60 * limit,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"ended after {limit:g} minutes") from error
        seconds = time.monotonic() - start
        if done.returncode or not out.exists():
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise Failed(lines[-1][:REASON])
        try:
            results = json.loads(out.read_text(encoding="utf-8"))["results"]
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(f"its results cannot be read ({type(error).__name__}: {error})") from error
    return Measured(results, round(seconds, 1), shlex.join(["python", *command]))


def _environment(threads: int) -> dict[str, str]:
    """Return the environment of a benchmark; of a source tree it imports the tree."""
    source = str(ROOT) if (ROOT / "setup.cfg").exists() else ""
    paths = [source, os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": str(threads),
    }
