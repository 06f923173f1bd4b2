"""Commands set the waiting policy before PyTorch loads; programs of one's own keep theirs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.training.process_environment import (
    POLICY,
    is_module_of,
    policy_origin,
    set_waiting_policy,
    waiting_policy,
)

ROOT = Path(__file__).parents[3]
IS_GNU = "libgomp" in (Path("/proc/self/maps").read_text() if sys.platform == "linux" else "")
LIKELIHOOD = ("likelihood", "nowhere", "--data", "nothing")  # refused, after PyTorch is loaded


def spins(*arguments: str, **variables: str) -> str:
    """Return the iterations that threads spin, as the runtime of a new process prints them."""
    unset = {name: value for name, value in os.environ.items() if name not in POLICY}
    unset.pop("UNIVAE_WAIT_POLICY", None)
    environment = {**unset, "OMP_DISPLAY_ENV": "VERBOSE", **variables}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        cwd=ROOT,
    )
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    assert found, done.stderr
    return found[1]


@pytest.mark.skipif(not IS_GNU, reason="reads what GNU's OpenMP runtime prints")
@pytest.mark.slow
def test_every_start_of_a_command_sets_the_policy_and_an_import_does_not() -> None:
    ours = POLICY["GOMP_SPINCOUNT"]
    assert spins("-m", "univae", *LIKELIHOOD) == ours
    assert spins("-m", "experiments.likelihood", *LIKELIHOOD[1:]) == ours
    assert spins("-m", "univae", *LIKELIHOOD, GOMP_SPINCOUNT="77") == "77"
    assert spins("-c", "import univae, experiments.likelihood") not in (ours, "77")


def test_the_policy_is_set_once_and_never_over_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.__name__ in sys.modules
    variables: dict[str, str] = {}
    assert not set_waiting_policy(variables)  # PyTorch has read them
    assert variables == {}

    monkeypatch.delitem(sys.modules, "torch")
    assert policy_origin(variables) == "runtime"
    assert set_waiting_policy(variables)
    assert waiting_policy(variables) == POLICY
    assert policy_origin(variables) == "command"
    assert not set_waiting_policy(variables)  # in a process that a command started
    assert policy_origin(variables) == "command"
    for name in POLICY:
        users = {name: "1234"}
        assert not set_waiting_policy(users)
        assert users == {name: "1234"}
        assert policy_origin(users) == "user"


@pytest.mark.parametrize(
    ("argv", "original", "expected"),
    [
        (["-m"], ["python", "-m", "experiments.train_text"], True),
        (["-m", "--out", "a"], ["python", "-u", "-m", "experiments.x", "--out", "a"], True),
        (["-m", "a"], ["python", "-mexperiments.x", "a"], True),
        (["-m"], ["python", "-m", "experiments_of_mine.x"], False),
        (["-m", "experiments.x"], ["python", "-m", "pytest", "experiments.x"], False),
        (["-c"], ["python", "-c", "import experiments"], False),
        (["/bin/univae", "sample"], ["python", "/bin/univae", "sample"], False),
        ([], ["python"], False),
    ],
)
def test_a_module_that_python_was_started_with_is_recognised(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], original: list[str], expected: bool
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert is_module_of("experiments") is expected
