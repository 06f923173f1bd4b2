"""Mutate files of every kind for some minutes, and read each: ``python -m tests.fuzz --minutes 5``.

An input must be read, or refused by InputError or exit code 2, within 20 s, in the memory of its
target (512 MB beside the libraries unless it states another bound), and a refusal must leave no
file. Anything else is a finding, whose input is saved. All targets get the same time. The summary
is one JSON object on stdout: inputs, refusals, and the findings by target and kind; the exit code
is 1 where there are any.
"""

import argparse
import importlib
import json
import os
import pkgutil
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # children of threads may wait for ever
os.environ.setdefault("OMP_NUM_THREADS", "1")

import tests.fuzz.targets
from experiments.benchmarks.harness import machine
from tests.fuzz.runner import OK, Outcome, Prepared, prepare, run_inputs
from tests.fuzz.target import Target

BATCH = 50  # inputs of a child
SAVED = 3  # inputs of one kind of finding


def targets() -> dict[str, Target]:
    """Return the targets of all modules of ``tests/fuzz/targets`` by their names."""
    modules = [
        importlib.import_module(f"tests.fuzz.targets.{module.name}")
        for module in pkgutil.iter_modules(tests.fuzz.targets.__path__)
    ]
    return {target.name: target for module in modules for target in module.TARGETS}


def main() -> int:
    """Run the battery; return the exit code."""
    every = targets()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of all targets together")
    parser.add_argument("--inputs", type=int, default=0, help="most of one target; 0: no bound")
    parser.add_argument("--targets", nargs="+", choices=list(every), default=list(every))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="saved inputs")
    options = parser.parse_args()

    start = time.monotonic()
    stop = start + 60 * options.minutes
    counts: dict[str, Counter[str]] = {name: Counter() for name in options.targets}
    seconds = dict.fromkeys(options.targets, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        waiting = [prepare(every[name], Path(folder) / name) for name in options.targets]
        while waiting and time.monotonic() < stop:
            prepared = min(waiting, key=lambda one: seconds[one.target.name])
            name = prepared.target.name
            began = time.monotonic()
            first = counts[name].total()
            last = min(first + BATCH, options.inputs or first + BATCH)
            for outcome in run_inputs(prepared, range(first, last), options.seed):
                counts[name][outcome.kind] += 1
                if outcome.is_finding and counts[name][outcome.kind] <= SAVED:
                    _save(prepared, outcome, options.seed, options.out)
            seconds[name] += time.monotonic() - began
            if last == options.inputs:
                waiting.remove(prepared)
    summary = {
        "command": f"python -m tests.fuzz {' '.join(sys.argv[1:])}".strip(),
        "machine": machine(),
        "seconds": round(time.monotonic() - start, 1),
        **_summary(counts, options.out),
    }
    print(json.dumps(summary, indent=2))
    return 1 if summary["findings"] else 0


def _save(prepared: Prepared, outcome: Outcome, seed: int, folder: Path) -> None:
    """Write the input of a finding under a name that says target, kind and number."""
    name, content = prepared.input(outcome.number, seed)
    kind = re.sub(r"[^A-Za-z0-9]+", "-", outcome.kind).strip("-")[:80]
    path = folder / prepared.target.name / f"{kind}-{outcome.number}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"{prepared.target.name} {outcome.number}: {outcome.kind}: {path}", file=sys.stderr)


def _summary(counts: dict[str, Counter[str]], folder: Path) -> dict[str, object]:
    findings = {}
    for name, kinds in counts.items():
        found = {kind: n for kind, n in kinds.items() if Outcome(0, kind).is_finding}
        if found:
            findings[name] = found
    return {
        "inputs": sum(kinds.total() for kinds in counts.values()),
        "read": {name: kinds[OK] for name, kinds in counts.items()},
        "inputs_by_target": {name: kinds.total() for name, kinds in counts.items()},
        "findings": findings,
        "saved": str(folder) if findings else "",
    }


if __name__ == "__main__":
    sys.exit(main())
