"""``univae doctor``: this installation and this machine, and what to do about each finding."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from experiments.cli.commands import run
from experiments.diagnosis import installation, machine, speed
from experiments.diagnosis.findings import NOTHING, Finding, find, table
from experiments.training.cores import usable_cores
from univae.checkpoint import JsonObject
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]

RESULTS = ()  # the table of the findings shows the result

# What it means that a look itself fails, where commands do the same.
FAILURES: Mapping[str, str] = {
    "device": "PyTorch fails on this GPU: commands run with --device cpu",
    "threads": "commands choose their threads in this way: give --threads",
    "disk": "runs may find no room there, or no right to write: give an --out on another disk",
    "matrices": "no model runs: install another build of PyTorch, see pytorch.org",
    "training": "a training ends in the same way: make room for it, or install another build of "
    "PyTorch, see pytorch.org",
    "writing": "no run can be written there: give an --out on another disk",
}

# Shares of --seconds.
MATRIX = 0.15
TRAINING = 0.7
DISK = 0.15


@dataclass(frozen=True, kw_only=True)
class Config:
    """Shows versions, devices, threads, memory and disk, measures speeds, and says what to do."""

    out: Path = Path("runs")  # folder that runs are written to, whose disk is checked
    seconds: float = 5.0  # seconds of the speed test; 0: none

    RULES: ClassVar[Mapping[str, Rule]] = {"seconds": at_least(0, 600, "0 (no speed test) or more")}

    def __post_init__(self) -> None:
        check(self)


def main(config: Config) -> JsonObject:
    """Return what was found, and all advice by the name of the finding."""
    looks: dict[str, Callable[[], Finding]] = {
        "versions": installation.versions,
        "extras": installation.extras,
        "device": machine.devices,
        "cores": machine.cores,
        "threads": machine.threads,
        "waiting": machine.waiting,
        "OpenMP": machine.openmp,
        "memory": machine.memory,
        "disk": lambda: machine.disk(config.out),
    }
    if config.seconds:
        looks |= _speed_tests(config)
    before = torch.get_num_threads()
    findings = [(name, find(look, FAILURES.get(name, NOTHING))) for name, look in looks.items()]
    torch.set_num_threads(before)

    print(table(findings), file=sys.stderr, flush=True)
    result: JsonObject = {}
    for _, finding in findings:
        result |= finding.numbers
    return {**result, "advice": {name: found.advice for name, found in findings if found.advice}}


def _speed_tests(config: Config) -> dict[str, Callable[[], Finding]]:
    threads = usable_cores()
    seconds = config.seconds
    folder = machine.existing(config.out)
    return {
        "matrices": lambda: speed.matrix_speed(MATRIX * seconds, threads),
        "training": lambda: speed.training_speed(TRAINING * seconds, threads),
        "writing": lambda: speed.disk_speed(DISK * seconds, folder),
    }


if __name__ == "__main__":
    run(Config, main)
