"""A training repeats to the same bits; another number of threads changes rounding only."""

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.benchmarks.steady_memory import trainings
from experiments.cli.commands import parse
from univae.run_folder import RunFolder

STEPS = 4
ROUNDING = 1e-5  # of a weight; measured: 2e-7 of texts, 0 of images


def trained(command: str, folder: Path, threads: int) -> Path:
    """Train a small model; return its file of weights."""
    torch.set_default_dtype(torch.float32)
    folder.mkdir()
    module_name, options = trainings(folder)[command]
    module = importlib.import_module(module_name)
    words = {**options, "steps": STEPS, "threads": threads, "out": folder / "run"}
    argv = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    module.main(parse(module.Config, argv))
    return RunFolder.open(folder / "run").checkpoint("last") / "model.safetensors"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("train-text", marks=pytest.mark.slow),
        "train-density",
        pytest.param("train-gan", marks=pytest.mark.slow),
        pytest.param("train-similar", marks=pytest.mark.slow),
    ],
)
def test_a_training_repeats_to_the_bit_and_with_other_threads_to_rounding(
    command: str, tmp_path: Path
) -> None:
    first = trained(command, tmp_path / "first", threads=1)
    assert trained(command, tmp_path / "again", threads=1).read_bytes() == first.read_bytes()
    weights = load_file(first)
    for name, other in load_file(trained(command, tmp_path / "threads", threads=2)).items():
        torch.testing.assert_close(other, weights[name], rtol=0, atol=ROUNDING)
