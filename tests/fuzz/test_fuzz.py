"""The battery itself: its targets read their valid inputs, and it sees each kind of finding."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.fuzz import runner
from tests.fuzz.__main__ import targets
from tests.fuzz.runner import OK, REFUSED, attempt, prepare, run_inputs
from tests.fuzz.target import Target
from univae.errors import InputError

VALID = 12  # of a target's valid inputs
MUTATED = 25
RUN_VALID = 4  # of the files of a run, which commands open
RUN_MUTATED = 6
# Runs whose commands take seconds, and the headers of files; others are opened by the same code.
SLOW = ("run-columns", "run-gan_images", "run-images", "run-similar", "run-text")
SLOW += ("compressed-headers",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in sorted(targets())
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_valid_inputs_are_read_and_mutated_ones_read_or_refused(name: str, tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)  # of the commands
    prepared = prepare(targets()[name], tmp_path)
    is_run = name.startswith("run-")
    valid = min(RUN_VALID if is_run else VALID, len(prepared.names))
    mutated = RUN_MUTATED if is_run else MUTATED
    for number in (*range(valid), *range(len(prepared.names), len(prepared.names) + mutated)):
        file, content = prepared.input(number, seed=0)
        path = prepared.work / file
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = attempt(prepared, path)
        path.write_bytes((prepared.valid / file).read_bytes())
        assert kind in (OK, REFUSED), f"input {number}: {kind}"
        assert kind == OK or number >= valid, f"the valid {file} is refused"


def make(folder: Path) -> Sequence[Path]:
    path = folder / "valid"
    path.write_bytes(b"valid")
    return [path]


def read_or_refuse(path: Path) -> None:
    if path.read_bytes() != b"valid":
        raise InputError("refused")


def unless_valid(finding: Callable[[Path], object]) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        if path.read_bytes() != b"valid":
            finding(path)

    return read


def leave_a_file(path: Path) -> None:
    path.with_name("left").write_bytes(b"")
    raise InputError("refused")


def hide_memory(path: Path) -> None:
    try:
        bytearray(2**34)
    except MemoryError as error:
        raise InputError("refused") from error


# What a reader may do, and the beginning of the kind of the finding.
FINDINGS = {
    "KeyError: tests/fuzz/test_fuzz.py": lambda path: {}[path],
    "memory: tests/fuzz/test_fuzz.py": lambda path: bytearray(2**34),
    "memory": hide_memory,
    "signal SIGKILL": lambda path: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda path: time.sleep(60),
    "left behind": leave_a_file,
    "the process ended with code 3": lambda path: os._exit(3),
}


@pytest.mark.parametrize("kind", FINDINGS)
def test_a_reader_that_does_what_it_may_not_is_found(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ALARM", 1)
    target = Target("bad", make, unless_valid(FINDINGS[kind]))
    outcomes = run_inputs(prepare(target, tmp_path), range(3), seed=0)
    assert [outcome.number for outcome in outcomes] == [0, 1, 2]
    assert outcomes[0].kind == OK
    assert all(outcome.kind.startswith(kind) for outcome in outcomes[1:])


def test_an_input_that_is_read_or_refused_is_no_finding(tmp_path: Path) -> None:
    outcomes = run_inputs(prepare(Target("good", make, read_or_refuse), tmp_path), range(50), 0)
    assert {outcome.kind for outcome in outcomes} == {OK, REFUSED}
    assert not any(outcome.is_finding for outcome in outcomes)


def test_seed_and_number_name_an_input(tmp_path: Path) -> None:
    prepared = prepare(targets()["pairs"], tmp_path)
    inputs = [prepared.input(number, seed=1) for number in range(100)]
    assert inputs == [prepared.input(number, seed=1) for number in range(100)]
    assert len(set(inputs)) > 80
