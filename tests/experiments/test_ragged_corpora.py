"""Text training goes on whatever the sizes of its batches: one text alone trains as well as many."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_commands import WORDS as EVERY_WORD
from torch import nn

from experiments import train_text
from experiments.text.presets import PRESETS
from experiments.text.task import TextTask
from experiments.training.run_folder import Run
from univae.checkpoint import load_weights
from univae.latent.heads import GaussianHead
from univae.latent.stream_norm import StreamNorm

WORDS = EVERY_WORD[:13]
# The sizes of a preset shrink to train in a second; its objective and the kind of its model stay.
SIZES = {
    "width": 16,
    "heads": 2,
    "layers": 2,
    "latent_layers": 2,
    "latent_width": 4,
    "vocab_size": 60,
}
SIZES |= {"max_length": 40, "batch_tokens": 48, "validation_texts": 4, "validation_samples": 2}
SIZES |= {"checkpoint_every": 0, "validate_every": 0, "log_every": 1, "threads": 1, "device": "cpu"}


def line(words: int, seed: int) -> str:
    return " ".join(np.random.default_rng([seed, words]).choice(WORDS, words))


CORPORA = {
    "one text": [line(7, 0)],
    "one long text among short ones": [*(line(3, seed) for seed in range(30)), line(36, 0)],
    "all of one length": [line(6, seed) for seed in range(29)],
    "long texts only, each a batch of its own": [line(30, seed) for seed in range(6)],
}


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "held_out.txt"
    path.write_text("".join(line(5, seed) + "\n" for seed in range(90, 94)), encoding="utf-8")
    return path


def written(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def stream_norm(width: int) -> StreamNorm:
    return StreamNorm(width, eps=1e-12, affine=False).train()


def test_two_rows_and_more_are_batch_normalised_bit_for_bit() -> None:
    plain = nn.BatchNorm1d(3, eps=1e-12, affine=False).train()
    norm = stream_norm(3)
    assert norm.state_dict().keys() == plain.state_dict().keys()
    for rows in (2, 5, 64):
        x = torch.randn(rows, 3)
        assert torch.equal(norm(x), plain(x))
    for name, value in plain.state_dict().items():
        assert torch.equal(norm.state_dict()[name], value)
    assert torch.equal(norm.eval()(x[:1]), plain.eval()(x[:1]))


def test_one_row_joins_the_moving_mean_and_variance() -> None:
    norm = stream_norm(3)
    norm(torch.randn(8, 3))
    mean = norm.running_mean.clone()
    variance = norm.running_var.clone()
    row = torch.randn(1, 3)
    y = norm(row)
    joined = mean + 0.1 * (row[0] - mean)
    spread = 0.9 * variance + 0.9 * 0.1 * (row[0] - mean) ** 2
    torch.testing.assert_close(norm.running_mean, joined)
    torch.testing.assert_close(norm.running_var, spread)
    torch.testing.assert_close(y[0], (row[0] - joined) / (spread + 1e-12).sqrt())
    assert norm.num_batches_tracked == 2


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_one_row_is_never_further_than_three_from_zero(size: float) -> None:
    norm = stream_norm(4)
    for _ in range(300):
        assert norm(torch.randn(1, 4) * size).abs().max() <= 3 + 1e-9
    assert norm(1e12 * torch.ones(1, 4)).abs().max() <= 3 + 1e-9


def test_gradients_of_one_row_are_those_of_its_formula() -> None:
    norm = stream_norm(4)
    state = {name: value.clone() for name, value in norm.state_dict().items()}

    def restart(row: torch.Tensor) -> torch.Tensor:
        norm.load_state_dict(state)
        return norm(row)

    assert torch.autograd.gradcheck(restart, torch.randn(1, 4, requires_grad=True))


def test_texts_that_come_one_by_one_keep_the_floor_of_the_kl() -> None:
    """The mean square of a stream of normalised rows is near 1, whatever the encoder's scale: KL >= d/2 gamma^2."""
    for scale in (1e-4, 1e3):
        head = GaussianHead(8, 4, gamma=0.6).train()
        means = torch.cat([head(scale * torch.randn(1, 8)).mean for _ in range(1000)])[300:]
        torch.testing.assert_close(
            means.square().mean().sqrt(), torch.tensor(0.6), atol=0, rtol=0.1
        )


def is_slow(preset: str, corpus: str) -> bool:
    """Return whether `make test` does without: it has the tiny and the published model."""
    return preset != "tiny" and (preset, corpus) != ("paper", "one long text among short ones")


@pytest.mark.parametrize(
    ("preset", "corpus"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if is_slow(*case) else [])
        for case in itertools.product(PRESETS, CORPORA)
    ],
)
def test_every_preset_trains_on_every_corpus(
    preset: str, corpus: str, tmp_path: Path, held_out: Path
) -> None:
    text = written(tmp_path / "texts.txt", CORPORA[corpus])
    options = {**PRESETS[preset], **SIZES, "tokenizer": "words", "steps": 6}
    config = train_text.Config.of(
        text=str(text), validation=str(held_out), out=tmp_path / "run", **options
    )
    result = train_text.train(config)
    assert result["steps"] == 6
    assert np.isfinite(result["nll_nats"])
    assert all(
        np.isfinite(row["loss"]) for row in Run.open(tmp_path / "run").rows() if "loss" in row
    )


@pytest.mark.parametrize(
    "accumulation",
    [{"accumulate": 3}, pytest.param({"window": 3, "clip": 0.0}, marks=pytest.mark.slow)],
)
def test_micro_batches_of_one_text_train(
    accumulation: dict[str, Any], tmp_path: Path, held_out: Path
) -> None:
    text = written(tmp_path / "texts.txt", CORPORA["long texts only, each a batch of its own"])
    options = {**PRESETS["tiny"], **SIZES, **accumulation, "tokenizer": "words", "steps": 4}
    config = train_text.Config.of(
        text=str(text), validation=str(held_out), out=tmp_path / "run", **options
    )
    assert train_text.train(config)["steps"] == 4


def test_a_run_of_single_texts_resumes_bit_for_bit(
    tmp_path: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = written(tmp_path / "texts.txt", CORPORA["one long text among short ones"] * 2)
    options = {
        **PRESETS["tiny"],
        **SIZES,
        "tokenizer": "words",
        "steps": 9,
        "checkpoint_every": 4,
        "ema": 0.9,
    }

    def config(name: str, **more: Any) -> train_text.Config:
        out = tmp_path / name
        return train_text.Config.of(
            text=str(text), validation=str(held_out), out=out, **{**options, **more}
        )

    train_text.train(config("whole"))
    plain = TextTask.loss

    def stop(self: TextTask, batch: torch.Tensor, progress: Any) -> Any:
        if progress.step == 6:
            raise KeyboardInterrupt
        return plain(self, batch, progress)

    monkeypatch.setattr(TextTask, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        train_text.train(config("cut"))
    monkeypatch.setattr(TextTask, "loss", plain)
    train_text.train(config("cut", resume=True))
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_of_one_text_each_train(
    tmp_path: Path, held_out: Path, started: Callable[..., dict[str, Any]]
) -> None:
    flags = [*two_processes(tmp_path, held_out), "--out", tmp_path / "run"]
    assert started(2, "experiments.train_text", *flags)["steps"] == 4


@pytest.mark.slow
def test_two_processes_of_one_text_each_resume_bit_for_bit_also_where_gradients_fold(
    tmp_path: Path, held_out: Path, started: Callable[..., dict[str, Any]]
) -> None:
    flags = [*two_processes(tmp_path, held_out), "--window", 2, "--clip", 0]
    assert started(2, "experiments.train_text", *flags, "--out", tmp_path / "whole")["steps"] == 4
    assert started(2, "tests.experiments.interrupted_training", *flags, "--out", tmp_path / "cut")[
        "interrupted"
    ]
    assert (
        started(2, "experiments.train_text", *flags, "--out", tmp_path / "cut", "--resume")["steps"]
        == 4
    )
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def two_processes(tmp_path: Path, held_out: Path) -> list[object]:
    text = written(tmp_path / "texts.txt", CORPORA["long texts only, each a batch of its own"])
    options = {
        **PRESETS["tiny"],
        **SIZES,
        "tokenizer": "words",
        "steps": 4,
        "text": text,
        "validation": held_out,
    }
    return [
        part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)
    ]


def test_a_weights_file_of_batch_normalised_means_still_loads(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    head = GaussianHead(8, 4, gamma=1.0)
    names = {"linear.weight", "linear.bias", "shift"}
    names |= {f"norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert head.state_dict().keys() == names  # those of version 0.1.0
    save_file(head.state_dict(), tmp_path / "model.safetensors")
    load_weights(GaussianHead(8, 4, gamma=1.0), tmp_path / "model.safetensors")
