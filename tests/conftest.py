"""Annotations, shapes included, are checked while tests run.

Every test starts from one seed, in float64 unless it says otherwise.

``pytest --hypothesis-profile=thorough tests/density/coding/test_bits_back.py
tests/density/coding/test_codec.py`` tries 10,000 inputs a test.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
from jaxtyping import install_import_hook

import tests.shape_checks  # noqa: F401  the hook of experiments reads it from the package tests

install_import_hook(["univae", "density", "gan"], "beartype.beartype")
install_import_hook("experiments", "tests.shape_checks.checked")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from univae.errors import InputError  # noqa: E402

settings.register_profile("quick", max_examples=20, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=10_000, deadline=None, derandomize=True)
settings.load_profile("quick")

torch.set_num_threads(1)  # the tensors are small: threads would only wait for each other


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip what draws glyphs where matplotlib lacks their typefaces: in Python 3.10."""
    try:
        return (yield)
    except InputError as error:
        if sys.version_info < (3, 11) and "has no typeface" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of annotations, for tests of what a user meets who has none."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def started() -> Callable[..., dict[str, Any]]:
    """Return ``start(processes, module, *argv)``.

    It runs a module in processes of its own and returns the JSON that it prints.
    """

    def start(processes: int, module: str, *argv: object) -> dict[str, Any]:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [
            sys.executable,
            *(torchrun if processes > 1 else []),
            "-m",
            module,
            *map(str, argv),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        root = Path(__file__).parents[1]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, cwd=root
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    return start
