"""Compiled steps train the same weights up to rounding, and are compiled once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from experiments.training import compilation
from experiments.training.compilation import require_compiler
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.settings import Settings
from experiments.training.task import Progress
from univae.checkpoint import JsonObject
from univae.errors import InputError

ROUNDING = 1e-5  # of a weight after three steps in float32; measured: 9e-7
COMPARED = "tests.experiments.compared_training"
CPU = torch.device("cpu")

compiles = pytest.mark.skipif(" " in torch.__path__[0], reason="PyTorch in a folder with spaces")


def test_a_missing_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        InputError,
        match=r"--compile needs a C\+\+ compiler \(no-such-compiler\).*apt install g\+\+",
    ):
        require_compiler(CPU)


def test_missing_headers_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr(compilation.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match=r"--compile needs .*Python\.h, .*python3-dev"):
        require_compiler(CPU)


def test_a_folder_with_spaces_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__path__", ["/my folder/torch"])
    with pytest.raises(InputError, match=r"a PyTorch in a folder without spaces .*my folder"):
        require_compiler(CPU)


def test_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="--compile needs the package triton"):
        require_compiler(torch.device("cuda"))


class Rows:
    """Regression with dropout and a moving count, on batches of ragged sizes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))
        self.module.register_buffer("rows", torch.zeros(()))

    def batches(self, epoch: int) -> Sequence[int]:
        return (5, 7, 4, 6)

    def load(self, item: int) -> Tensor:
        return torch.randn(item, 3)

    def weight(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        self.module.rows += len(batch)
        loss = (self.module(batch) - batch.sum(-1, keepdim=True).sin()).square().sum()
        return (1 + progress.fraction) * loss, {}

    def validate(self, progress: Progress) -> JsonObject:
        return {}


def trained(*, is_compiled: bool) -> dict[str, Tensor]:
    task = Rows()
    steps = GradientSteps(task, Settings(compile=is_compiled), World(0, 1, CPU))
    for step in range(4):
        steps.step([task.batches(0)[step]], Progress(step, step / 4))
    return task.module.state_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@compiles
def test_compiled_steps_train_the_same_weights() -> None:
    torch.set_default_dtype(torch.float32)
    eager = trained(is_compiled=False)
    counters.clear()
    compiled = trained(is_compiled=True)
    assert list(compiled) == list(eager)
    for name, weight in eager.items():
        torch.testing.assert_close(compiled[name], weight, rtol=0, atol=ROUNDING)
    assert counters["stats"]["unique_graphs"] <= 2  # of all sizes and fractions of training


@compiles
@pytest.mark.slow
def test_the_halves_of_blocks_are_compiled_once(
    tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    compared = started(1, COMPARED, "patches", tmp_path, "seed=0", "compile")
    assert 0 < compared["differences"][0] < ROUNDING
    assert compared["graphs"] == [0, 2]
    assert compared["litter"] == []


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "similar"])
def test_ragged_texts_do_not_compile_again(
    kind: str, tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    runs = ["compile", "seed=0", "compile,recompute", "recompute", "steps=12", "compile,steps=12"]
    compared = started(1, COMPARED, kind, tmp_path, *runs)
    eager, recomputed, eager_recomputed, *_ = compared["differences"]
    assert 0 < eager < ROUNDING
    assert recomputed is None
    assert eager_recomputed == eager
    assert compared["graphs"][0] == compared["graphs"][5] <= 4
    assert not any("torch" in name for name in compared["files"])


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "mlp", "ladder", "table"])
def test_the_loss_of_a_model_without_blocks_is_compiled(
    kind: str, tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    runs = ["seed=0", "compile", "steps=6,annealing=linear", "compile,steps=6,annealing=linear"]
    compared = started(1, COMPARED, kind, tmp_path, *runs)
    assert compared["differences"][0] < ROUNDING
    assert 0 < compared["graphs"][1] == compared["graphs"][3]  # whatever the weight of the KL


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "mlp"])
@pytest.mark.parametrize("options", ["compile", "compile,accumulate=2", "compile,window=2,clip=0"])
def test_a_resumed_run_continues_bit_for_bit(
    kind: str, options: str, tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    compared = started(1, COMPARED, kind, tmp_path, options, f"{options},steps=2+1")
    assert compared["differences"] == [None]


@compiles
@pytest.mark.slow
def test_processes_train_the_same_weights(
    tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    runs = ["seed=0", "recompute", "compile", "compile,recompute"]
    divided = ["shard", "shard,recompute", "shard,compile", "shard,compile,recompute"]
    compared = started(2, COMPARED, "text", tmp_path, *runs, *divided)
    recomputed, *others = compared["differences"]
    assert recomputed is None
    assert max(others) < ROUNDING
    assert others[2] == others[3]  # divided, and divided with activations computed again
