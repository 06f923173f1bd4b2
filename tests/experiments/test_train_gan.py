"""GANs from the command line: trained, resumed to the bit, measured with floor and faults, audited, refused."""

import json
import math
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_commands import refused
from torch import Tensor, nn

from experiments import audit, demo, evaluate_gan, train_gan
from experiments.data.arrays import Data
from experiments.data.readers import read
from experiments.gans.evaluation import Reference, compute_reference, table
from experiments.gans.features import (
    Space,
    class_labels,
    open_feature_space,
    train_feature_space,
)
from experiments.gans.ladder import ladder
from experiments.gans.presets import PRESETS
from experiments.gans.samples import fixed_latents
from experiments.gans.scaling import to_unit_range
from experiments.gans.task import GanTask
from experiments.reports.validations import best_validation
from experiments.training.run_folder import Run
from experiments.training.stopping import Interrupted, TrainingFailed
from gan.metrics import frechet_distance
from gan.players import Players
from gan.trained import TrainedGan
from univae.errors import InputError

COMMON: dict[str, Any] = {
    "steps": 6,
    "batch_size": 16,
    "width": 4,
    "latent": 8,
    "hidden": (16,),
    "feature_steps": 3,
    "validation_data": 60,
    "log_every": 2,
    "threads": 1,
}


def config(out: Path, data: str = "digits", **options: Any) -> train_gan.Config:
    return train_gan.Config.of(data=data, out=out, **COMMON | options)


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("digits", {"conditional": True, "loss": "relativistic", "augment": ("translation",)}),
        pytest.param(
            "digits",
            {
                "network": "resnet",
                "n_critic": 2,
                "generator_ratio": 2,
                "flip": True,
                "ema_images": 0.0,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "digits",
            {
                "network": "attention",
                "width": 8,
                "heads": 2,
                "precision": "bf16",
                "spectral": "reshaped",
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "digits",
            {"normalization": "none", "loss": "wasserstein", "gp": 10.0, "spectral": "exact"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "wine",
            {"normalization": "gran", "gran_eps": 0.2, "gradient_bound": 2.0, "conditional": True},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_kind_of_gan_trains_reopens_is_measured_and_audited(
    tmp_path: Path, data: str, options: dict
) -> None:
    result = train_gan.main(config(tmp_path / "run", data, **options))
    is_doubtful = data == "digits"  # after three steps of its classifier
    assert (result["frechet_distance"] is None) == is_doubtful
    assert ("of held-out images, below 80%" in result.get("frechet_note", "")) == is_doubtful
    assert result["feature_space"].startswith("digits-cnn-" if data == "digits" else "data")
    opened = TrainedGan.open(tmp_path / "run", "cpu")
    assert opened.has_average == (options.get("ema_images") != 0)
    raw = opened.raw()
    z = fixed_latents(8, 4)
    assert torch.equal(opened.generate(z), raw.generate(z)) != opened.has_average
    found = evaluate_gan.main(evaluate_gan.Config(run=tmp_path / "run", count=60))
    distance = found[f"frechet[{found['feature_space']}]"]
    assert math.isfinite(distance)
    assert found["frechet_distance"] == (None if is_doubtful else distance)
    assert (found["floor"]["kernel_distance"] is None) == is_doubtful
    assert {"floor", "raw", "ladder", "precision", "coverage", "memorisation_ratio"} <= found.keys()
    facts = audit.main(audit.Config(run=tmp_path / "run", count=20))
    assert facts["normalization"] == options.get("normalization", "gn")
    assert audit.main(audit.Config(run=tmp_path / "run", count=20)) == facts
    assert (
        audit.main(audit.Config(run=tmp_path / "run", count=20, seed=1))["gradient_norms"]
        != facts["gradient_norms"]
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert facts["verdict"].split(".")[0] in page
    assert "Metrics, floor and known faults" in page
    assert ("Do not report these distances: the classifier of digits-cnn-" in page) == is_doubtful
    assert ("Generated images" in page) == (data == "digits")


def test_training_resumes_to_the_same_bits_and_logs_both_players(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "steps": 12,
        "n_critic": 2,
        "r1": 0.5,
        "lazy": 3,
        "flip": True,
        "validate_every": 6,
        "optimizer": "tiger",
    }
    whole = train_gan.train(config(tmp_path / "whole", **options))
    load = GanTask.load
    loaded = []

    def load_and_stop(task: GanTask, item: np.ndarray) -> Any:
        loaded.append(len(item))
        if len(loaded) == 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return load(task, item)

    monkeypatch.setattr(GanTask, "load", load_and_stop)
    settings = config(tmp_path / "parts", **options)
    with pytest.raises(Interrupted, match="after step 7"):
        train_gan.train(settings)
    resumed = train_gan.train(settings.change(resume=True))
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    folders = [tmp_path / name / "checkpoints" / "last" for name in ("whole", "parts")]
    assert (
        folders[0].joinpath("model.safetensors").read_bytes()
        == folders[1].joinpath("model.safetensors").read_bytes()
    )
    raw = [torch.load(folder / "optimizer.pt", weights_only=True)["weights"] for folder in folders]
    assert all(torch.equal(raw[0][name], raw[1][name]) for name in raw[0])
    rows = TrainedGan.open(tmp_path / "whole").folder.rows("train")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    assert all(
        {"loss", "generator_loss", "norm_median", "gradient_norm", "penalty"} <= row.keys()
        for row in rows
    )
    assert all(row["gradient_norm"] > 0 and math.isfinite(row["generator_loss"]) for row in rows)
    assert {path.name for path in (tmp_path / "whole" / "samples").glob("step_*")} == {
        "step_000006.png",
        "step_000012.png",
    }


@pytest.mark.slow
def test_two_processes_train_one_gan(
    tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    flags = [
        "--data",
        "wine",
        "--steps",
        4,
        "--batch-size",
        8,
        "--hidden",
        8,
        "--threads",
        1,
        "--device",
        "cpu",
    ]
    flags += ["--validation-data", 40, "--out", tmp_path / "run"]
    assert started(2, "experiments.train_gan", *flags)["steps"] == 4
    assert all(
        row["loss"] is not None for row in TrainedGan.open(tmp_path / "run").folder.rows("train")
    )


@pytest.mark.slow
def test_two_processes_train_the_classifier_of_labelled_images_and_the_gan_in_one_group(
    tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    flags = [
        "--data",
        "digits",
        "--steps",
        4,
        "--batch-size",
        16,
        "--width",
        4,
        "--latent",
        8,
        "--feature-steps",
        3,
    ]
    flags += ["--validation-data", 40, "--threads", 1, "--device", "cpu", "--out", tmp_path / "run"]
    result = started(2, "experiments.train_gan", *flags)
    assert result["steps"] == 4
    assert result["feature_space"].startswith("digits-cnn-")
    features = Run.open(tmp_path / "run" / "features")
    assert [row["step"] for row in features.rows("validation")] == [3]  # trained once, by both
    assert (
        json.loads((features.path / "checkpoints" / "last" / "state.json").read_text())["processes"]
        == 2
    )


@pytest.mark.slow
def test_training_brings_the_generator_nearer_to_the_digits(tmp_path: Path) -> None:
    options = {
        "steps": 60,
        "width": 8,
        "batch_size": 32,
        "lr": 1e-3,
        "generator_lr": 1e-3,
        "validate_every": 1,
    }
    first = {**options, "steps": 1, "validate_every": 0}
    start = train_gan.train(config(tmp_path / "start", feature_steps=60, ema_images=500.0, **first))
    space = str(tmp_path / "start" / "features")
    options |= {"features": space, "validate_every": 0, "ema_images": 500.0}
    end = train_gan.train(config(tmp_path / "end", **options))
    assert end["feature_space"] == start["feature_space"]
    assert end["frechet_distance"] < 0.7 * start["frechet_distance"]


def test_a_gradient_that_is_not_finite_ends_training_with_a_report(
    tmp_path: Path, monkeypatch: Any
) -> None:
    load = GanTask.load
    monkeypatch.setattr(GanTask, "load", lambda task, item: (load(task, item)[0] * math.nan, None))
    with pytest.raises(
        TrainingFailed, match="training stopped in step 1: the gradient of the critic is not finite"
    ):
        train_gan.train(config(tmp_path / "run", "wine"))
    assert json.loads((tmp_path / "run" / "ERROR.json").read_text())["player"] == "critic"


def test_the_feature_net_is_trained_once_and_named_after_its_weights(tmp_path: Path) -> None:
    data = read("digits")
    space = train_feature_space(data, tmp_path / "features", steps=150, threads=1)
    assert space.accuracy > 0.9
    x = to_unit_range(data.batch(slice(0, 100)), data.levels)
    assert space.features(x).shape == (100, 64)
    assert (space.classes(x) == torch.as_tensor(data.labels[:100])).double().mean() > 0.9
    time = (tmp_path / "features" / "DONE").stat().st_mtime_ns
    again = train_feature_space(data, tmp_path / "features", steps=150)
    assert open_feature_space(data, tmp_path / "features").name == space.name
    with pytest.raises(InputError, match="nowhere"):
        open_feature_space(data, Path("nowhere"))
    assert (tmp_path / "features" / "DONE").stat().st_mtime_ns == time
    assert (
        again.name
        == space.name
        == open_feature_space(data, Path("nowhere"), str(tmp_path / "features")).name
    )
    other = train_feature_space(data, tmp_path / "other", steps=2, threads=1)
    assert other.name != space.name
    with pytest.raises(InputError, match="takes 1 channels, grey has 3"):
        open_feature_space(
            replace(data, values=data.values.repeat(3, 1), name="grey"),
            tmp_path,
            str(tmp_path / "other"),
        )


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x.flatten(1)


def test_a_module_of_the_users_is_a_feature_space_too(tmp_path: Path) -> None:
    space = open_feature_space(read("digits"), tmp_path, "test_train_gan:Twice")
    assert space.name == "test_train_gan:Twice"
    assert torch.equal(space.features(torch.ones(2, 1, 2, 2)), torch.full((2, 4), 2.0))
    unlabelled = replace(read("digits"), labels=None)
    random = open_feature_space(unlabelled, tmp_path)
    assert random.name == "random-cnn-64"
    assert random.classes(torch.zeros(2, 1, 8, 8)) is None
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(random.features(x), open_feature_space(unlabelled, tmp_path).features(x))
    with pytest.raises(InputError, match="cannot be imported"):
        open_feature_space(unlabelled, tmp_path, "nowhere:Net")


def test_labels_of_classes_are_told_from_those_of_a_regression() -> None:
    assert class_labels(read("digits")).unique().tolist() == list(range(10))
    assert class_labels(read("diabetes")) is None
    assert class_labels(replace(read("digits"), labels=None)) is None


def blobs() -> Reference:
    values = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32) * (1, 50)
    data = Data(values, None, None, "blobs", "table")
    held_out = torch.randn(100, 2) * torch.tensor([1.0, 50.0])
    return compute_reference(data, np.arange(400), held_out, Space("data", lambda x: x), count=150)


def test_the_ladder_ranks_the_floor_first_and_knows_each_fault() -> None:
    found = blobs()
    rungs = ladder(found)
    floor = rungs["floor: other real data"]
    assert "blurred" not in rungs  # for images
    memorised = rungs["50 memorised, repeated"]
    noise = rungs["noise alone"]
    assert noise["frechet_distance"] > 2 * floor["frechet_distance"]
    assert memorised["copies"] == 1
    assert memorised["memorisation_ratio"] < 1e-3
    assert floor["memorisation_ratio"] == pytest.approx(1, abs=0.3)
    columns, cells = table(rungs, "data")
    assert columns[1] == "frechet[data]"
    assert len(cells) == len(rungs)
    digits = read("digits")
    space = Space("pixels", lambda x: x, lambda x: x.flatten(1)[:, :10])
    images = compute_reference(
        digits, np.arange(400), to_unit_range(digits.batch(slice(400, 500)), 17), space, count=150
    )
    assert {"blurred", "one class dropped"} <= ladder(images).keys()


def test_features_are_standardised_by_the_reference_and_silent_ones_dropped() -> None:
    found = blobs()
    fake = found.other_real * 1.1
    scale = found.real.std(0)
    wanted = frechet_distance(found.real / scale, fake / scale)
    assert found.measure(fake)["frechet_distance"] == pytest.approx(wanted, rel=1e-4)
    padded = Space("padded", lambda x: torch.cat((x, torch.zeros(len(x), 3)), 1))
    silent = compute_reference(found.data, found.order, found.other_real, padded, found.count)
    assert silent.features(fake).shape[1] == 2


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_a_configuration_that_builds(tmp_path: Path, name: str) -> None:
    options = {**PRESETS[name], "width": 4}
    if name.startswith(("cifar", "stl")):
        assert options["batch_size"] >= 50
    side = 48 if name.startswith("stl") else 32 if name.startswith("cifar") else 28
    shape = (64, 3 if side > 28 else 1, side, side)
    np.savez(tmp_path / "data.npz", images=np.zeros(shape, np.uint8), labels=np.arange(64) % 4)
    settings = train_gan.Config.of(data=str(tmp_path / "data.npz"), out=tmp_path / "run", **options)
    described = train_gan.model_config(settings.model, read(settings.data.data), 4)
    players = Players(described)
    settings.players.recipe().check(players.critic)
    labels = (torch.tensor([0, 3]),) if players.generator.classes else ()
    fake = players.generator(torch.randn(2, settings.model.latent), *labels)
    assert players.critic(fake, *labels).shape == (2,)


def test_grids_show_images_from_black_to_white(tmp_path: Path) -> None:
    train_gan.main(config(tmp_path / "run", steps=2))
    with Image.open(tmp_path / "run" / "samples" / "real.png") as picture:
        assert picture.getextrema() == (0, 255)
        assert picture.size == (16 * 42, 6 * 42)
    best = best_validation(TrainedGan.open(tmp_path / "run").folder)
    assert best["selection"] > 0
    assert "frechet_distance" not in best


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("digits", ("--gp", "10"), "gp with gn: the normalised score has a different gradient"),
        (
            "digits",
            ("--normalization", "none", "--loss", "wasserstein"),
            "its supremum is infinite",
        ),
        (
            "digits",
            ("--ema", "0.9"),
            "ema must be 0: give the average's half-life with --ema-images",
        ),
        (
            "digits",
            ("--window", "2"),
            "window must be 1: a GAN alternates the steps of two players; got window=2",
        ),
        (
            "digits",
            ("--optimizer", "egdd"),
            "optimizer must be adamw or sgd or tiger: a GAN alternates",
        ),
        ("digits", ("--features", "nowhere:Net"), "nowhere:Net cannot be imported"),
        ("digits", ("--features", "nowhere"), "nowhere.model.json: no such file"),
        (
            "diabetes",
            ("--conditional",),
            "conditional needs class labels 0, 1, ...; diabetes has none",
        ),
        ("wine", ("--network", "conv"), r"data must be \(channels, height, width\)"),
        (
            "wine",
            ("--batch-size", "500"),
            "--batch-size 500 needs 500 training rows; --data wine leaves 160",
        ),
        ("wine", ("--flip",), "--flip: for images only; --data wine is a table; drop it"),
        ("digits", ("--held-out", "0"), r"held_out must be in \(0, 1\)"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: Any, data: str, options: tuple[str, ...], message: str, unchecked: None
) -> None:
    said = refused(capsys, "train-gan", "--data", data, "--out", tmp_path / "run", *options)
    assert re.search(message, said), said
    assert not (tmp_path / "run").exists()


def test_the_run_of_another_command_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": "train-text"}))
    with pytest.raises(InputError, match="is not the run of a GAN"):
        TrainedGan.open(tmp_path)
    with pytest.raises(InputError, match="count must be at least 2"):
        audit.main(audit.Config(run=tmp_path, count=1))


@pytest.mark.slow
def test_the_demo_trains_a_gan_and_shows_its_grid(tmp_path: Path, monkeypatch: Any) -> None:
    small = {name: value for name, value in COMMON.items() if name != "threads"}
    monkeypatch.setitem(PRESETS, "tiny", small | {"feature_steps": 100})
    Run.create(tmp_path / "demo", {"command": "train-text"})
    found = demo.generate_digits(demo.Config(out=tmp_path / "demo", gan_minutes=0.1, threads=1))
    assert found["frechet_distance"] > found["floor"]["frechet_distance"] > 0
    assert (tmp_path / "demo" / "gan" / "report.html").exists()
    config = Run.open(tmp_path / "demo" / "gan").config
    assert (config["steps"], config["minutes"], config["time_limit"]) == (demo.GAN_STEPS, 0, 0.1)
    described = json.loads((tmp_path / "demo" / "samples" / "gan.json").read_text())
    with Image.open(tmp_path / "demo" / "samples" / described["file"]) as picture:
        assert np.asarray(picture).std() > 1


def test_real_data_that_are_all_alike_are_refused_before_anything_is_compared() -> None:
    data = Data(np.ones((400, 2), np.float32), None, None, "alike", "table")
    message = "150 rows of alike are equal in the feature space data; give other data, or another"
    with pytest.raises(InputError, match=message):
        compute_reference(
            data, np.arange(400), torch.ones(100, 2), Space("data", lambda x: x), count=150
        )


def test_a_generator_that_gives_one_image_has_a_row_of_metrics() -> None:
    row = blobs().measure(torch.zeros(150, 2))
    assert row["recall"] == 0
    assert all(np.isfinite(value) for value in row.values())
