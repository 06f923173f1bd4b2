"""Activations that are computed again give the same gradients in less memory."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from experiments.gans.task import require_settings
from experiments.training.blocks import blocks_of, recompute
from experiments.training.comparison import require_same_options
from experiments.training.distributed import World
from experiments.training.gradient_steps import GradientSteps
from experiments.training.run_folder import Run
from experiments.training.settings import Settings
from experiments.training.task import Progress
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.special import PAD
from univae.vae.config import UniVAEConfig
from univae.vae.model import UniVAE

WORLD = World(0, 1, torch.device("cpu"))
LAYERS = 6


class Texts:
    """Texts of random tokens, in batches of ragged lengths."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        config = UniVAEConfig(
            vocab_size=11,
            width=32,
            heads=2,
            layers=LAYERS,
            latent_layers=2,
            latent_width=3,
            dropout=0.3,
            attention_dropout=0.2,
            word_dropout=0.3,
        )
        self.module = UniVAE(config)

    def batches(self, epoch: int) -> Sequence[int]:
        return (7, 4, 9, 5)

    def load(self, item: int) -> Tensor:
        ids = torch.randint(3, 11, (6, item))
        ids[0, item // 2 :] = PAD
        return ids

    def weight(self, batch: Tensor) -> int:
        return int((batch != PAD).sum())

    def loss(self, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        bound = self.module.elbo(batch)
        return bound.kl.sum() - bound.log_likelihood.sum(), {}

    def validate(self, progress: Progress) -> JsonObject:
        return {}


def trained(**options: object) -> dict[str, Tensor]:
    """Return the weights after three steps in float32."""
    torch.set_default_dtype(torch.float32)
    task = Texts()
    steps = GradientSteps(task, Settings(**options), WORLD)
    task.module.train()
    items = [item for epoch in range(3) for item in task.batches(epoch)]
    for step in range(3):
        count = steps.batches
        steps.step(items[step * count : (step + 1) * count], Progress(step, 0.3))
    steps.release()
    return task.module.state_dict()


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"accumulate": 2}, marks=pytest.mark.slow),
        pytest.param({"window": 2, "clip": 0.0}, marks=pytest.mark.slow),
        {"window": 2},
        {"precision": "bf16"},
    ],
)
def test_the_trained_weights_are_the_same_bit_for_bit(options: dict[str, object]) -> None:
    kept = trained(**options)
    again = trained(**options, recompute=True)
    assert list(again) == list(kept)
    for name, weight in kept.items():
        assert torch.equal(again[name], weight), name


def saved_bytes(task: Texts) -> int:
    """Return the size of what a forward pass saves for the backward pass, but for weights."""
    storages: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if not isinstance(x, nn.Parameter):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss, _ = task.loss(torch.randint(3, 11, (8, 64)), Progress(0, 0.0))
    assert loss.requires_grad
    return sum(storages.values())


def test_a_forward_pass_saves_no_activations_of_blocks() -> None:
    task = Texts()
    task.module.train()
    kept = saved_bytes(task)
    recompute(task.module)
    inputs = 8 * (1 + 2 * 64) * 32 * 8  # of a block: two streams of 64 rows in float64
    assert saved_bytes(task) + LAYERS * inputs < kept / 4


def test_blocks_are_the_members_of_the_outermost_lists() -> None:
    module = Texts().module
    assert blocks_of(nn.ModuleDict({"a": module})) == list(module.blocks)
    assert len(blocks_of(module)) == LAYERS


def test_without_gradients_a_block_is_called_once() -> None:
    task = Texts()
    calls: list[int] = []
    task.module.blocks[0].narrow.register_forward_hook(lambda *_: calls.append(1))
    recompute(task.module)
    recompute(task.module)  # once more changes nothing
    batch = task.load(5)
    with torch.no_grad():
        task.loss(batch, Progress(0, 0.0))
    assert len(calls) == 1
    loss, _ = task.loss(batch, Progress(0, 0.0))
    loss.backward()
    assert len(calls) == 3


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"--recompute: this model has no Transformer blocks.*--model attention"
    ):
        recompute(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))


@pytest.mark.parametrize("name", ["recompute", "compile"])
def test_a_gan_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be False: .*; got {name}=True"):
        require_settings(Settings(**{name: True}))


@pytest.mark.parametrize("name", ["recompute", "compile"])
def test_a_run_continues_with_and_without(name: str, tmp_path: Path) -> None:
    settings = Settings()
    run = Run.create(tmp_path / "run", asdict(settings))
    require_same_options(run, {**asdict(settings), name: True})
    with pytest.raises(InputError, match="accumulate: 1 -> 2"):
        require_same_options(run, {**asdict(settings), "accumulate": 2, name: True})
