"""Copies of the golden runs, opened in single precision, as the explorer opens them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import make

import univae


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], Any]:
    """Return a function that opens a copy of a golden run."""
    return lambda name: univae.load(make.copy_run(name, tmp_path), device="cpu")
