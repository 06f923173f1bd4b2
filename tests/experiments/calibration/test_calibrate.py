"""Calibration moves the posterior alone, raises the held-out bound or changes nothing, and resumes."""

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments import calibrate, compress, decompress, train_density, train_text
from experiments.calibration import run as calibration_run
from experiments.calibration.fits import FITS
from experiments.calibration.options import Calibration
from experiments.calibration.task import CalibrationTask
from experiments.evaluation.bounds import layered_bound
from experiments.text.task import TextTask
from experiments.training.run_folder import TIMING, Run
from experiments.training.settings import Settings
from experiments.training.stopping import Interrupted, TrainingFailed
from experiments.training.task import Progress
from tests.damage import flip_a_bit
from univae.checkpoint import read_json, write_json
from univae.errors import InputError
from univae.temporary_files import HOST

WORDS = [
    "the",
    "a",
    "no",
    "small",
    "large",
    "red",
    "blue",
    "cat",
    "dog",
    "bird",
    "sees",
    "likes",
    "old",
    "new",
    "fish",
]
TEXT_OPTIONS: dict[str, Any] = {
    "width": 16,
    "heads": 2,
    "layers": 2,
    "latent_layers": 2,
    "latent_width": 4,
    "vocab_size": 300,
    "bn_gamma": 1.0,
    "word_dropout": 0.4,
    "steps": 40,
    "lr": 1e-2,
    "batch_tokens": 128,
    "validation_texts": 20,
    "validation_samples": 4,
    "log_every": 4,
    "calibration": 0.5,
    "threads": 1,
}
TABLE_OPTIONS: dict[str, Any] = {
    "data": "digits",
    "latents": (3,),
    "hidden": (16,),
    "steps": 20,
    "batch_size": 20,
    "validation_data": 20,
    "validation_samples": 4,
    "threads": 1,
}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    lines = [" ".join(draw.choice(WORDS, draw.integers(2, 9))) for _ in range(200)]
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def text_config(out: Path, texts: Path, **options: Any) -> train_text.Config:
    return train_text.Config.of(out=out, text=str(texts), **TEXT_OPTIONS | options)


@pytest.fixture(scope="module")
def calibrated(
    tmp_path_factory: pytest.TempPathFactory, texts: Path
) -> tuple[Path, dict[str, Any]]:
    """A run that ends with a calibration, to be read, and the result of its training."""
    run = tmp_path_factory.mktemp("calibrated") / "run"
    return run, train_text.train(text_config(run, texts))


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory, texts: Path) -> Path:
    """A run of as many steps as the training of the other one, to be copied."""
    run = tmp_path_factory.mktemp("uncalibrated") / "run"
    train_text.train(text_config(run, texts, calibration=0.0, steps=20))
    return run


def copy_of(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


def weights(run: Path, checkpoint: str) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / checkpoint / "model.safetensors")


def same_weights(one: Path, other: Path, checkpoint: str) -> bool:
    """Return whether a checkpoint of two runs is the same, bit for bit."""
    first = weights(one, checkpoint)
    second = weights(other, checkpoint)
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def stop_at(step: int, task: type[Any], patch: pytest.MonkeyPatch) -> None:
    """Let this process be asked to stop while a task takes a step."""
    plain_loss = task.loss

    def stopping_loss(self: Any, batch: Tensor, progress: Progress) -> Any:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain_loss(self, batch, progress)

    patch.setattr(task, "loss", stopping_loss)


def rows(path: Path) -> list[dict[str, Any]]:
    stored = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in row if key not in TIMING} for row in stored]


def test_training_ends_with_a_posterior_that_fits_the_model_better(
    calibrated: tuple[Path, dict[str, Any]],
) -> None:
    run, result = calibrated
    assert result["steps"] == 20
    summary = result["calibration"]
    assert summary["kept"]
    assert summary["steps"] == 20
    assert summary["after"]["elbo_nats"] > summary["before"]["elbo_nats"]
    assert result["elbo_nats"] == summary["after"]["elbo_nats"]

    before = weights(run, "uncalibrated")
    after = weights(run, "best")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("infer.") for name in moved)
    # logged apart: 20 steps of training and 20 of calibration, every fourth
    steps = [row["step"] for row in rows(run) if row["kind"] == "train"]
    inner = [row["step"] for row in rows(run / "calibration") if row["kind"] == "train"]
    assert steps == inner == [4, 8, 12, 16, 20]
    assert read_json(run / "DONE") == result


def worsening(self: Any, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
    """Lead away from the posterior: the bound is minimised."""
    bound = layered_bound(self.vae, batch)
    return bound.log_likelihood.sum() - bound.kl.sum(), {}


def test_a_calibration_that_helps_nothing_leaves_the_run_as_it_was(
    tmp_path: Path, uncalibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(uncalibrated, tmp_path / "run")
    before = weights(run, "best")
    monkeypatch.setattr(CalibrationTask, "loss", worsening)
    result = calibrate.main(calibrate.Config(run=run, steps=5))
    assert not result["calibration"]["kept"]
    assert "elbo_nats" not in result
    after = weights(run, "best")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not Run.open(run).has_checkpoint("uncalibrated")


def test_the_command_equals_the_last_phase_of_training(
    tmp_path: Path, calibrated: tuple[Path, dict[str, Any]], uncalibrated: Path
) -> None:
    run = copy_of(uncalibrated, tmp_path / "run")
    left_by_a_killed_process = run / f".calibration.{HOST}.{2**30}.new"
    left_by_a_killed_process.mkdir()
    calibrate.main(calibrate.Config(run=run, steps=20))
    assert same_weights(calibrated[0], run, "best")
    assert not left_by_a_killed_process.exists()

    with pytest.raises(InputError, match="has been calibrated; --again does it once more"):
        calibrate.main(calibrate.Config(run=run, steps=20))


def test_an_interrupted_calibration_resumes_to_the_same_weights(
    tmp_path: Path,
    texts: Path,
    calibrated: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_at(7, CalibrationTask, patch)
        cut = text_config(tmp_path / "cut", texts, checkpoint_every=1)
        with pytest.raises(Interrupted):
            train_text.train(cut)
    assert not (tmp_path / "cut" / "DONE").exists()
    assert not Run.open(tmp_path / "cut").has_checkpoint("uncalibrated")

    train_text.train(text_config(tmp_path / "cut", texts, checkpoint_every=1, resume=True))
    for checkpoint in ("best", "uncalibrated"):
        assert same_weights(calibrated[0], tmp_path / "cut", checkpoint)
    assert rows(calibrated[0] / "calibration") == rows(tmp_path / "cut" / "calibration")


@pytest.mark.slow
def test_files_of_all_weights_before_the_present_ones_are_restored(
    tmp_path: Path, texts: Path
) -> None:
    run = tmp_path / "run"
    train_text.train(text_config(run, texts, calibration=0.0))
    short = tmp_path / "short.txt"
    short.write_text("".join(texts.read_text().splitlines(keepends=True)[:8]))
    packed = [tmp_path / f"{count}.bits" for count in range(3)]
    for count, file in enumerate(packed):
        if count:
            again = calibrate.main(calibrate.Config(run=run, steps=20, again=count > 1))
            assert again["calibration"]["kept"]
        compress.main(compress.Config(run=run, data=str(short), out=file, store=False))
    assert Run.open(run).uncalibrated() == ["uncalibrated", "uncalibrated-2"]
    assert len({file.read_bytes() for file in packed}) == 3

    for file in packed:
        out = file.with_suffix(".txt")
        decompress.main(decompress.Config(run=run, data=file, out=out))
        assert out.read_bytes() == short.read_bytes()


@pytest.mark.slow
def test_a_calibration_cut_off_while_it_is_kept_is_kept_by_the_next_call(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_text.train(text_config(tmp_path / "whole", texts, calibration=0.0))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    calibrate.main(calibrate.Config(run=tmp_path / "whole", steps=20))
    plain_save = calibration_run.save_weights

    def failing(module: nn.Module, path: Path) -> None:
        raise KeyboardInterrupt

    config = calibrate.Config(run=tmp_path / "cut", steps=20)
    monkeypatch.setattr(calibration_run, "save_weights", failing)
    with pytest.raises(KeyboardInterrupt):
        calibrate.main(config)
    monkeypatch.setattr(calibration_run, "save_weights", plain_save)
    calibrate.main(config)
    assert Run.open(tmp_path / "cut").uncalibrated() == ["uncalibrated"]
    for checkpoint in ("best", "uncalibrated"):
        assert same_weights(tmp_path / "whole", tmp_path / "cut", checkpoint)


def test_weights_that_have_changed_are_not_calibrated(tmp_path: Path, texts: Path) -> None:
    run = tmp_path / "run"
    train_text.train(text_config(run, texts, calibration=0.0, steps=4))
    file = run / "checkpoints" / "best" / "model.safetensors"
    flip_a_bit(file)
    content = file.read_bytes()
    with pytest.raises(InputError, match=r"model\.safetensors: has changed since"):
        calibrate.main(calibrate.Config(run=run, steps=2))
    assert file.read_bytes() == content
    assert not Run.open(run).has_checkpoint("uncalibrated")


def test_folded_gradients_of_the_training_reach_the_calibration(
    tmp_path: Path, texts: Path
) -> None:
    config = text_config(tmp_path / "run", texts, window=2, clip=0.0, steps=24)
    train_text.train(config)
    norms = [row["gradient_norm"] for row in rows(tmp_path / "run" / "calibration")[1:-1]]
    assert all(norm > 0 for norm in norms)


def test_a_calibration_that_fails_leaves_a_finished_training(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, batch: Tensor, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        loss = sum(p.sum() for p in self.module.parameters())
        return loss * math.nan, {}

    monkeypatch.setattr(CalibrationTask, "loss", broken)
    result = train_text.train(text_config(tmp_path / "run", texts))
    assert "calibration" not in result
    assert any("not calibrated: training stopped in step 1" in note for note in result["notes"])
    assert read_json(tmp_path / "run" / "DONE") == result
    with pytest.raises(TrainingFailed, match="is as it was before"):
        calibrate.main(calibrate.Config(run=tmp_path / "run"))


def test_minutes_without_room_for_a_calibration_leave_a_note(tmp_path: Path, texts: Path) -> None:
    config = text_config(tmp_path / "run", texts, minutes=0.05, calibration=0.001)
    result = train_text.train(config)
    assert result["steps"] > 0
    assert any(
        "not calibrated: the 5e-05 minutes of training leave no time to train" in note
        for note in result["notes"]
    )


def test_an_unfinished_training_is_not_calibrated(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(7, TextTask, patch)
        config = text_config(tmp_path / "run", texts)
        with pytest.raises(Interrupted):
            train_text.train(config)
    with pytest.raises(InputError, match="is not complete; finish it with --resume"):
        calibrate.main(calibrate.Config(run=tmp_path / "run"))


def test_a_run_older_than_the_options_resumes_without_a_calibration(
    tmp_path: Path, texts: Path
) -> None:
    run = tmp_path / "run"
    train_text.train(text_config(run, texts, calibration=0.0))
    config = read_json(run / "config.json")
    write_json(
        run / "config.json",
        {name: config[name] for name in config if name not in ("calibration", "fit")},
    )
    train_text.train(text_config(run, texts, calibration=0.0, resume=True))
    with pytest.raises(InputError, match=r"calibration: 0.0 -> 0.5"):
        train_text.train(text_config(run, texts, resume=True))


def test_other_texts_are_no_training_texts(tmp_path: Path, texts: Path, uncalibrated: Path) -> None:
    run = copy_of(uncalibrated, tmp_path / "run")
    with pytest.raises(InputError, match="holds the token ids of its training; leave out --data"):
        calibrate.main(calibrate.Config(run=run, data=str(texts)))
    shutil.rmtree(run / "corpus")
    other = tmp_path / "other.txt"
    other.write_text("a cat\n" * 50)
    with pytest.raises(InputError, match="not the texts of the training"):
        calibrate.main(calibrate.Config(run=run, data=str(other)))
    assert not (run / "corpus").exists()
    moved = tmp_path / "moved texts.txt"
    moved.write_bytes(texts.read_bytes())
    assert calibrate.main(calibrate.Config(run=run, data=str(moved), steps=20))["calibration"]


def test_images_are_calibrated_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = train_density.train(train_density.Config.of(out=run, **TABLE_OPTIONS))
    assert "calibration" not in trained
    result = calibrate.main(calibrate.Config(run=run, steps=30))
    summary = result["calibration"]
    assert summary["kept"]
    assert summary["after"]["elbo_nats"] > summary["before"]["elbo_nats"]


@pytest.mark.slow
def test_all_of_the_model_gains_more_than_its_posterior(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_text.train(text_config(tmp_path / "posterior", texts, calibration=0.0))
    for name in ("model", "collapsed"):
        shutil.copytree(tmp_path / "posterior", tmp_path / name)
    # random words leave a latent little to do: with the plain bound it falls out of use
    config = calibrate.Config(run=tmp_path / "collapsed", steps=40, fit="model")
    result = calibrate.main(config)
    assert not result["calibration"]["kept"]
    assert any("the latent is not in use" in note for note in result["notes"])

    monkeypatch.setattr("experiments.calibration.task.NEGLIGIBLE", -math.inf)
    bounds = {}
    for fit in FITS:
        config = calibrate.Config(run=tmp_path / fit, steps=40, fit=fit)
        bounds[fit] = calibrate.main(config)["elbo_nats"]
    assert bounds["model"] > bounds["posterior"]
    before = weights(tmp_path / "model", "uncalibrated")
    after = weights(tmp_path / "model", "best")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("blocks.") for name in moved)


def test_the_share_divides_steps_and_minutes() -> None:
    options = Calibration(calibration=0.25)
    timed = Settings(minutes=8.0)
    assert options.training(timed).minutes == 6.0
    plan = options.plan(timed)
    assert plan is not None
    assert plan.settings.minutes == 2.0

    counted = Settings(steps=10)
    assert options.training(counted).steps == 8
    plan = options.plan(counted)
    assert plan is not None
    assert (plan.settings.steps, plan.settings.minutes) == (2, 0.0)
    assert options.plan(Settings(steps=3)) is None
    assert Calibration(calibration=0.0).plan(timed) is None


def test_a_run_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"command": "train-gan"}')
    with pytest.raises(InputError, match="is the run of a GAN, and univae calibrate takes one of"):
        calibrate.main(calibrate.Config(run=tmp_path))


@pytest.mark.slow
def test_training_on_undoes_the_calibration_and_calibrates_again_at_the_end(
    texts: Path, tmp_path: Path
) -> None:
    short: dict[str, Any] = {"steps": 20, "calibration": 0.5, "validate_every": 10}
    train_text.train(text_config(tmp_path / "a", texts, **short))
    assert read_json(tmp_path / "a" / "calibration" / "config.json")["steps"] == 10
    assert Run.open(tmp_path / "a").uncalibrated() == ["uncalibrated"]
    longer = short | {"steps": 30, "resume": True}
    for name in ("a", "b"):
        if name == "b":
            train_text.train(text_config(tmp_path / name, texts, **short))
        result = train_text.train(text_config(tmp_path / name, texts, **longer))
        assert (result["steps"], result["calibration"]["steps"]) == (15, 15)
        assert "trained on after step 10 with --steps 30" in result["notes"][-1]
    assert Run.open(tmp_path / "a").uncalibrated() == ["uncalibrated"]
    state = read_json(tmp_path / "a" / "checkpoints" / "uncalibrated" / "state.json")
    assert state["step"] == 15
    for checkpoint in ("last", "best", "uncalibrated"):
        assert same_weights(tmp_path / "a", tmp_path / "b", checkpoint)
