"""Commands that are killed go on to the same bits, and leave neither litter nor halves of files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def battery(module: str, *words: str) -> dict[str, Any]:
    """Return the summary of a battery, which forks and therefore runs outside of this process."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{module}", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def test_killed_commands_go_on_to_the_same_bits_and_leave_nothing() -> None:
    cases = ("train-density", "compress")
    summary = battery("kills", "--most", "2", "--seed", "7", "--cases", *cases)
    assert summary["faults"] == []
    assert summary["kills"] >= 6
    assert all(count > 5 for count in summary["operations"].values())


@pytest.mark.slow
def test_every_command_survives_kills_and_signals() -> None:
    summary = battery("kills", "--most", "3", "--random", "2", "--signals", "3")
    assert summary["faults"] == []
    assert summary["signals"] == 3 * len(summary["operations"])


@pytest.mark.slow
def test_a_full_disk_ends_a_command_by_one_line_and_costs_nothing() -> None:
    summary = battery(
        "full_disk", "--cases", "train-density", "encode", "--sizes", "100", "3000", "9000"
    )
    assert summary["faults"] == []
    assert set(summary["codes"]["train-density"]) <= {1, 2}
    assert 2 in summary["codes"]["encode"]
