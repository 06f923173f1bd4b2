"""A run folder holds units, levels and a fingerprint of its data; a changed file is refused."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_commands import refused as command_refused
from torch import Tensor, nn

from density.trained import TrainedDensity
from experiments import audit, evaluate_gan, likelihood, sample, train_density, train_gan
from experiments.cli.options import parse
from experiments.data.arrays import Data
from experiments.data.readers import read
from experiments.evaluation.bounds import layered_bound
from experiments.evaluation.latent_model import measure
from experiments.evaluation.open_run import open_run
from experiments.gans.evaluation import compute_reference
from experiments.gans.features import Space
from experiments.gans.scaling import gan_rows, standardise, to_data_units
from experiments.gans.units import units_of
from experiments.images.presets import PRESETS
from experiments.images.run import centred, fit_to
from experiments.images.task import measure_images
from experiments.training.run_folder import Run
from gan.trained import TrainedGan
from tests.old_runs import without_checksums
from univae.checkpoint import read_json
from univae.errors import InputError

GAN: dict[str, Any] = {
    "steps": 2,
    "batch_size": 16,
    "width": 4,
    "latent": 8,
    "hidden": (8,),
    "feature_steps": 2,
    "validation_data": 60,
    "threads": 1,
}
VAE: dict[str, Any] = {
    "steps": 4,
    "latents": (2,),
    "hidden": (8,),
    "validation_samples": 4,
    "threads": 1,
}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def gan(out: Path, data: Path | str, **options: Any) -> Path:
    train_gan.train(train_gan.Config.of(data=str(data), out=out, **{**GAN, **options}))
    return out


def vae(out: Path, data: Path | str, **options: Any) -> dict[str, Any]:
    return train_density.train(
        train_density.Config.of(data=str(data), out=out, **{**VAE, **options})
    )


def draws(run: Path, out: Path, count: int = 8) -> np.ndarray:
    sample.main(sample.Config(run=run, count=count, out=out, overwrite=True, device="cpu"))
    with np.load(out) as arrays:
        return arrays["images" if "images" in arrays.files else "x"]


def without_record(run: Path) -> None:
    """Make a run look as version 0.1.0 left it."""
    (run / "data.json").unlink()
    without_checksums(run)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def refused(capsys: Any, *argv: object) -> str:
    """Return the one line of a command that must be refused, without what was printed before it."""
    capsys.readouterr()
    return command_refused(capsys, *argv)


def rows(count: int = 300) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 2)) * [1, 5] + [10, 100]


# Units


@pytest.mark.parametrize("change", ["one row", "gone"])
def test_what_a_gan_draws_of_a_table_depends_on_its_run_folder_alone(
    tmp_path: Path, change: str
) -> None:
    data = tmp_path / "x.npy"
    np.save(data, rows())
    run = gan(tmp_path / "run", data)
    first = draws(run, tmp_path / "a.npz")
    assert np.abs(first.mean(0) - [10, 100]).max() < 30
    if change == "gone":
        data.unlink()
    else:
        table = rows()
        table[0] = 1e6
        np.save(data, table)
    assert np.array_equal(draws(run, tmp_path / "b.npz"), first)


def test_a_run_of_version_010_reads_its_data_to_sample(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows())
    run = gan(tmp_path / "run", tmp_path / "x.npy")
    first = draws(run, tmp_path / "a.npz")
    without_record(run)
    np.testing.assert_allclose(draws(run, tmp_path / "b.npz"), first, rtol=1e-12)
    evaluate_gan.main(evaluate_gan.Config(run=run, count=60))
    (tmp_path / "x.npy").unlink()
    with pytest.raises(InputError, match=r"x\.npy is no file, folder or built-in set"):
        draws(run, tmp_path / "c.npz")


def images(kind: str) -> np.ndarray:
    digits = read("digits").values[:300, 0]
    kinds = {
        "levels": digits,
        "bytes": 15 * digits,
        "bits": (digits > 8).astype(np.uint8),
        "unit": (digits / 16).astype(np.float32),
        "standardised": (digits - digits.mean()) / digits.std(),
    }
    return kinds[kind]


@pytest.mark.parametrize("kind", ["levels", "bytes", "bits", "unit", "standardised"])
def test_a_perfect_generator_draws_the_numbers_of_its_images(tmp_path: Path, kind: str) -> None:
    np.savez(tmp_path / "x.npz", images=images(kind))
    units = standardise(read(tmp_path / "x.npz"))
    x = gan_rows(units, slice(None))
    if kind in ("unit", "standardised", "bits"):
        assert (x.min().item(), x.max().item()) == (-1, 1)  # what a tanh reaches
    again = to_data_units(x, units)[:, 0]
    assert again.dtype == (np.uint8 if units.levels else images(kind).dtype)
    if units.levels:
        assert np.array_equal(again, images(kind))
    else:
        np.testing.assert_allclose(again, images(kind), atol=1e-6)


def test_a_gan_of_real_images_draws_within_the_range_of_its_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=3 + images("unit"))
    run = gan(tmp_path / "run", tmp_path / "x.npz")
    record = Run.open(run).data_record()["data"]
    assert (record["levels"], record["centre"], record["spread"], record["dtype"]) == (
        None,
        3.5,
        0.5,
        "float32",
    )
    drawn = draws(run, tmp_path / "a.npz")
    assert drawn.dtype == np.float32
    assert 3 - 1e-6 <= drawn.min() < drawn.max() <= 4 + 1e-6
    without_record(run)  # version 0.1.0 had real images as they are
    assert torch.equal(
        gan_rows(units_of(TrainedGan.open(run, "cpu")), [0]), read(tmp_path / "x.npz").batch([0])
    )


def test_levels_of_a_built_in_set_are_drawn_as_its_levels(tmp_path: Path) -> None:
    drawn = draws(gan(tmp_path / "run", "digits"), tmp_path / "a.npz")
    assert drawn.dtype == np.uint8
    assert drawn.max() <= 16


def test_a_table_of_levels_is_drawn_in_whole_numbers(tmp_path: Path) -> None:
    table = np.random.default_rng(0).integers(0, 200, (300, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", table)
    units = standardise(read(tmp_path / "x.npy"))
    assert np.array_equal(to_data_units(gan_rows(units, slice(None)), units), table)
    assert draws(gan(tmp_path / "run", tmp_path / "x.npy"), tmp_path / "a.npz").dtype == np.uint8


def far() -> np.ndarray:
    """Two columns of mean 1e9 and 1e20, deviation 1 and 1e20, and a constant one."""
    x = np.random.default_rng(0).normal(size=(300, 3))
    return np.stack([1e9 + x[:, 0], 1e20 * (1 + x[:, 1]), np.full(300, 0.1)], 1)


def test_columns_far_from_zero_keep_their_digits_in_a_gan() -> None:
    units = standardise(Data(far(), None, None, "far", "table"))
    x = gan_rows(units, slice(None)).double()
    torch.testing.assert_close(x.mean(0), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]).double(), atol=1e-5, rtol=0
    )
    again = to_data_units(x, units)
    np.testing.assert_allclose(again[:, 0] - 1e9, far()[:, 0] - 1e9, atol=1e-5)
    assert np.array_equal(again[:, 2], far()[:, 2])


def test_a_density_does_not_change_with_the_origin_of_a_column(tmp_path: Path) -> None:
    table = np.round(np.random.default_rng(0).normal(size=(200, 2)), 6)
    scores = {}
    for name, origin in (("near", 0.0), ("far", 1e9)):
        np.save(tmp_path / f"{name}.npy", table + origin)
        scores[name] = vae(tmp_path / name, tmp_path / f"{name}.npy", steps=40, lr=1e-2)["nll_nats"]
        run = TrainedDensity.open(tmp_path / name, "cpu")
        assert fit_to(run, read(tmp_path / f"{name}.npy")).batch(slice(None)).abs().max() < 6
    assert scores["far"] == pytest.approx(scores["near"], abs=1e-2)
    assert scores["near"] < 3.2  # two standard normals: 2.84


def test_the_centre_of_a_density_is_that_of_its_training_set(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows())
    np.save(tmp_path / "other.npy", rows() + 50)
    vae(tmp_path / "run", tmp_path / "x.npy", validation=str(tmp_path / "other.npy"))
    opened = TrainedDensity.open(tmp_path / "run", "cpu")
    centre = centred(read(tmp_path / "x.npy"), None).centre
    assert np.array_equal(fit_to(opened, read(tmp_path / "other.npy")).centre, centre)
    held_out = train_density.held_out_data(
        train_density.Config.of(
            data=str(tmp_path / "x.npy"),
            validation=str(tmp_path / "other.npy"),
            out=opened.path,
        )
    )
    assert held_out.mean(0).tolist() == pytest.approx([50, 50], abs=0.1)
    without_record(opened.path)
    assert fit_to(opened, read(tmp_path / "x.npy")).centre is None


def test_numbers_beyond_float32_are_refused_before_training(
    tmp_path: Path, capsys: Any, unchecked: None
) -> None:
    table = rows()
    table[7, 1] = 1e39
    np.save(tmp_path / "x.npy", table)
    np.save(tmp_path / "good.npy", rows())
    for options in (
        ("--data", tmp_path / "x.npy"),
        ("--data", tmp_path / "good.npy", "--validation", tmp_path / "x.npy"),
    ):
        line = refused(
            capsys,
            "train-density",
            *options,
            "--out",
            tmp_path / "run",
            "--hidden",
            8,
            "--latents",
            2,
        )
        assert "x: row 7 holds 1e+39, more than the 3.4e+38 of float32; rescale it" in line
        assert not (tmp_path / "run").exists()
    huge = rows() * 1e200
    np.save(tmp_path / "x.npy", huge)
    line = refused(capsys, "train-gan", "--data", tmp_path / "x.npy", "--out", tmp_path / "run")
    assert re.search("the numbers are too large, up to 1.*e.202; rescale them", line)
    assert not (tmp_path / "run").exists()


# Changed data


CHANGES = {
    "fewer": lambda x, y: (x[:150], y[:150]),
    "inverted": lambda x, y: (255 - x, y),
    "other labels": lambda x, y: (x, y[::-1]),
    "no labels": lambda x, y: (x, None),
    "taller": lambda x, y: (np.pad(x, ((0, 0), (0, 8), (0, 0))), y),
}


def store(path: Path, x: np.ndarray, y: np.ndarray | None) -> None:
    labels = {} if y is None else {"labels": y}
    np.savez(path, images=x, **labels)


@pytest.mark.parametrize("command", ["train-density", "train-gan"])
def test_a_resumed_run_refuses_data_that_have_changed_and_changes_nothing(
    tmp_path: Path, command: str, capsys: Any, unchecked: None
) -> None:
    x = images("bytes")
    y = read("digits").labels[:300]
    data = tmp_path / "x.npz"
    run = tmp_path / "run"
    store(data, x, y)
    (vae if command == "train-density" else gan)(run, data)
    (run / "ERROR.json").write_text("{}")
    before = contents(run)
    for name, change in CHANGES.items():
        store(data, *change(x, y))
        line = refused(capsys, command, "--out", run, "--resume")
        count = 150 if name == "fewer" else 300
        assert (
            f"was started with other data, which have changed since (data {data}: 300 then, {count} now)"
            in line
        )
        assert contents(run) == before
    store(data, x, y)
    capsys.readouterr()
    (vae if command == "train-density" else gan)(run, data, resume=True)
    if command == "train-gan":
        store(data, 255 - x, y)
        for measuring in ("evaluate-gan", "audit"):
            assert "was started with other data" in refused(capsys, measuring, run)


def test_a_resumed_density_refuses_another_validation_set(
    tmp_path: Path, capsys: Any, unchecked: None
) -> None:
    np.save(tmp_path / "x.npy", rows())
    np.save(tmp_path / "v.npy", rows(20))
    run = tmp_path / "run"
    vae(run, tmp_path / "x.npy", validation=str(tmp_path / "v.npy"))
    np.save(tmp_path / "v.npy", rows(20) + 1)
    line = refused(capsys, "train-density", "--out", run, "--resume")
    assert f"(validation {tmp_path / 'v.npy'}: 20 then, 20 now)" in line
    line = refused(capsys, "train-density", "--out", run, "--resume", "--validation", "")
    assert "20 then, 0 now" in line


def test_a_resumed_run_of_other_options_or_another_model_is_left_as_it_was(
    tmp_path: Path, capsys: Any, unchecked: None
) -> None:
    np.save(tmp_path / "x.npy", images("bytes"))
    run = tmp_path / "run"
    vae(run, tmp_path / "x.npy")
    before = contents(run)
    assert "hidden: [8] -> [9]" in refused(
        capsys, "train-density", "--out", run, "--resume", "--hidden", 9
    )
    assert contents(run) == before
    # version 0.1.0: the data are not compared, so the model shows that they are taller
    without_record(run)
    np.save(tmp_path / "x.npy", np.pad(images("bytes"), ((0, 0), (0, 1), (0, 0))))
    before = contents(run)
    line = refused(capsys, "train-density", "--out", run, "--resume", "--data", tmp_path / "x.npy")
    assert "holds another model: pixels.shape: [1, 8, 8] -> [1, 9, 8]; restore the data" in line
    assert contents(run) == before


def test_data_may_move_while_their_content_stays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows())
    vae(tmp_path / "run", tmp_path / "x.npy", steps=6)
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    vae(tmp_path / "run", tmp_path / "y.npy", steps=6, resume=True)


def test_relative_paths_mean_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path / "x.npz", images("bytes"), read("digits").labels[:300])
    np.save(tmp_path / "v.npy", images("bytes")[:20])
    monkeypatch.chdir(tmp_path)
    first = gan(Path("first"), "x.npz")
    gan(Path("second"), "x.npz", features="first/features")
    vae(Path("density"), "x.npz", validation="v.npy")
    vae(Path("built-in"), "wine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = read_json("../second/config.json")
    assert (config["data"], config["features"]) == (
        str(tmp_path / "x.npz"),
        str(tmp_path / "first" / "features"),
    )
    density = read_json("../density/config.json")
    assert (density["data"], density["validation"]) == (
        str(tmp_path / "x.npz"),
        str(tmp_path / "v.npy"),
    )
    assert read_json("../built-in/config.json")["data"] == "wine"
    evaluate_gan.main(evaluate_gan.Config(run=Path("../second"), count=60))
    argv = ["--out", "../second", "--resume"]
    train_gan.train(parse(train_gan.Config, argv, {}, ""))
    train_density.train(parse(train_density.Config, ["--out", "../density", "--resume"], {}, ""))
    assert first == Path("first")


def test_a_run_of_version_010_resumes_with_the_path_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", rows())
    monkeypatch.chdir(tmp_path)
    vae(Path("run"), "x.npy")
    without_record(Path("run"))
    config = read_json("run/config.json") | {"data": "x.npy"}
    Path("run/config.json").write_text(json.dumps(config))
    train_density.train(parse(train_density.Config, ["--out", "run", "--resume"], {}, ""))


# Code


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x.flatten(1)


def test_a_run_folder_starts_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, unchecked: None
) -> None:
    run = gan(tmp_path / "run", "digits")
    (tmp_path / "trick.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w').close()\nNet = len\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = read_json(run / "config.json")
    for space in ("trick:Net", "::", ".x:y"):
        (run / "config.json").write_text(json.dumps(config | {"features": space}))
        line = refused(capsys, "evaluate-gan", run)
        assert (
            f"its feature space {space} is code, which a run folder must not start; give --features {space}"
            in line
        )
        line = refused(capsys, "train-gan", "--out", run, "--resume")
        assert (
            f"its feature space {space} is code, which a run folder must not start; repeat --features {space}"
            in line
        )
        audit.main(audit.Config(run=run, count=20))
        draws(run, tmp_path / "a.npz")
    (run / "config.json").write_text(json.dumps(config | {"features": 5}))
    assert "config.json: features must be text; got features=5" in refused(
        capsys, "evaluate-gan", run
    )
    assert not (tmp_path / "RAN").exists()


def test_code_named_in_this_call_is_run(tmp_path: Path) -> None:
    run = gan(tmp_path / "run", "digits", features="test_run_data:Doubled")
    config = evaluate_gan.Config(run=run, count=60, features="test_run_data:Doubled")
    assert evaluate_gan.main(config)["feature_space"] == "test_run_data:Doubled"
    argv = ["--out", str(run), "--resume", "--features", "test_run_data:Doubled"]
    train_gan.train(parse(train_gan.Config, argv, {}, ""))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("::", "features: :: is no package.module:name"),
        (".x:y", r"features: \.x:y is no package.module:name"),
        ("os:", "features: os: is no package.module:name"),
        ("os:sep", "features: os:sep is of type str; give a callable from images to features"),
        ("subprocess:Popen", "features: subprocess:Popen needs arguments"),
    ],
)
def test_a_name_that_is_no_map_is_refused_before_there_is_a_folder(
    tmp_path: Path, capsys: Any, choice: str, message: str, unchecked: None
) -> None:
    assert re.search(
        message,
        refused(
            capsys, "train-gan", "--data", "digits", "--out", tmp_path / "run", "--features", choice
        ),
    )
    assert not (tmp_path / "run").exists()


def test_features_of_a_run_that_is_no_classifier_are_refused(tmp_path: Path) -> None:
    vae(tmp_path / "vae", "digits")
    with pytest.raises(
        InputError, match="vae has no classifier; give the features/ folder of a run of train-gan"
    ):
        gan(tmp_path / "run", "digits", features=str(tmp_path / "vae"))


# Held-out sets


@pytest.mark.parametrize(
    ("train", "validation", "options", "message"),
    [
        (rows(), rows()[:, :1], (), r"--validation .*v.npy: a datum is \(1,\), --data has \(2,\)"),
        (
            images("bytes"),
            np.zeros((9, 9, 9), "u1"),
            (),
            r"a datum is \(1, 9, 9\), --data has \(1, 8, 8\)",
        ),
        (
            images("bytes"),
            images("unit"),
            (),
            r"--validation .*: real numbers, but --data has the levels 0..255",
        ),
        (images("levels") // 2, images("bytes"), (), None),
        (
            images("bits"),
            images("bytes"),
            (),
            r"--validation .*: must hold the levels 0..1; got 240",
        ),
        (rows(), rows(1), (), r"--validation .*v.npy: 2 held-out rows are needed; it has 1"),
        (
            rows(12),
            None,
            ("--held-out", "0.05"),
            r"2 held-out rows are needed; 12 rows with --held-out 0.05 give 1",
        ),
    ],
)
def test_a_held_out_set_that_does_not_fit_is_refused_before_training(
    tmp_path: Path,
    train: np.ndarray,
    validation: Any,
    options: Any,
    message: str | None,
    capsys: Any,
    unchecked: None,
) -> None:
    np.save(tmp_path / "x.npy", train)
    argv = ["--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"), *options]
    if validation is not None:
        np.save(tmp_path / "v.npy", validation)
        argv += ["--validation", str(tmp_path / "v.npy")]
    if message is None:
        vae(tmp_path / "run", tmp_path / "x.npy", validation=str(tmp_path / "v.npy"))
        return
    assert re.search(message, refused(capsys, "train-density", *argv))
    assert not (tmp_path / "run").exists()


def test_a_gan_needs_two_held_out_rows_and_data_that_differ(
    tmp_path: Path, capsys: Any, unchecked: None
) -> None:
    np.save(tmp_path / "x.npy", rows(24))
    argv = ("--out", tmp_path / "run", "--batch-size", 8)
    line = refused(capsys, "train-gan", "--data", tmp_path / "x.npy", *argv, "--held-out", 0.01)
    assert "--held-out 0.01 of --data" in line
    assert "gives 1 held-out rows; at least 2 are needed" in line
    for alike in (np.ones((90, 2)), np.zeros((90, 8, 8), "u1"), np.full((90, 8, 8), 0.3)):
        np.save(tmp_path / "x.npy", alike)
        line = refused(capsys, "train-gan", "--data", tmp_path / "x.npy", *argv)
        assert "x.npy: all 90 rows are alike; give data that differ" in line
    blank = np.zeros((90, 8, 8), np.uint8)
    blank[0, 0, 0] = 1  # not alike, but the half that is the reference is
    np.save(tmp_path / "x.npy", blank)
    for seed in range(9):
        line = refused(capsys, "train-gan", "--data", tmp_path / "x.npy", *argv, "--seed", seed)
        if "are equal in the feature space random-cnn-64" in line:
            break
    assert "give other data, or another --features" in line
    assert not (tmp_path / "run").exists()


def test_a_reference_of_one_number_is_refused() -> None:
    data = Data(np.ones((40, 2)), None, None, "ones", "table")
    with pytest.raises(
        InputError, match="20 rows of ones are equal in the feature space data; give other data"
    ):
        compute_reference(data, np.arange(40), torch.ones(5, 2), Space("data", lambda x: x))


# Levels that a reader cannot tell


def test_levels_are_those_of_the_training_set(tmp_path: Path) -> None:
    run = tmp_path / "run"
    vae(run, "digits", binarisation="threshold")
    opened = TrainedDensity.open(run, "cpu")
    # read as 256 levels: above half of 255 is none of them
    np.save(tmp_path / "levels.npy", images("levels"))
    same = fit_to(opened, read(tmp_path / "levels.npy"))
    assert same.notes == ("levels: 0..16 are read as 17 levels, as those of the training set are",)
    assert np.array_equal(same.values, fit_to(opened, read("digits")).values[:300])
    np.save(tmp_path / "bytes.npy", images("bytes"))  # more than 17 levels: grey of 0..255
    assert np.array_equal(
        fit_to(opened, read(tmp_path / "bytes.npy")).values, images("bytes")[:, None] > 127
    )


def test_black_and_white_pictures_are_the_two_levels_of_a_binary_run(tmp_path: Path) -> None:
    np.save(tmp_path / "bits.npy", images("bits"))
    np.save(tmp_path / "wide.npy", 255 * images("bits"))
    np.save(tmp_path / "grey.npy", images("bytes"))
    vae(tmp_path / "run", tmp_path / "bits.npy")
    opened = TrainedDensity.open(tmp_path / "run", "cpu")
    wide = fit_to(opened, read(tmp_path / "wide.npy"))
    assert wide.notes == ("wide: 0 and 255 are read as black and white, as the training set is",)
    assert np.array_equal(wide.values, fit_to(opened, read(tmp_path / "bits.npy")).values)
    with pytest.raises(
        InputError, match=r"grey: must hold the levels 0..1; got 240; binarise or rescale it"
    ):
        fit_to(opened, read(tmp_path / "grey.npy"))
    np.save(tmp_path / "unit.npy", images("unit"))
    with pytest.raises(
        InputError, match=r"unit: real numbers, but the training set of .* has the levels 0..1"
    ):
        fit_to(opened, read(tmp_path / "unit.npy"))
    without_record(tmp_path / "run")
    with pytest.raises(
        InputError, match=r"unit: must hold the levels 0..1; it has real numbers; convert it"
    ):
        fit_to(opened, read(tmp_path / "unit.npy"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith("iwae") else [])
        for name, options in PRESETS.items()
        if options.get("binarisation") == "auto"
    ],
)
def test_a_preset_leaves_binarisation_to_the_data(tmp_path: Path, name: str) -> None:
    assert name in ("tiny", "iwae-1", "iwae-2", "neighbours", "univae")
    if name not in ("tiny", "iwae-1", "iwae-2"):
        return  # models of images alone
    for data, wanted in (("wine", "none"), ("digits", "dynamic")):
        argv = [
            "--data",
            data,
            "--out",
            str(tmp_path / data),
            "--preset",
            name,
            "--steps",
            "2",
            "--threads",
            "1",
        ]
        argv += ["--validation-samples", "2"]
        train_density.train(parse(train_density.Config, argv, PRESETS, ""))
        assert read_json(tmp_path / data / "config.json")["binarisation"] == wanted
        train_density.train(parse(train_density.Config, [*argv, "--resume"], PRESETS, ""))


# Rows that are not finite


def with_outlier(tmp_path: Path, value: float = 1e30) -> Path:
    wine = read("wine").values
    np.save(tmp_path / "train.npy", wine)
    held_out = wine[:20].copy()
    held_out[3, 0] = value
    np.save(tmp_path / "v.npy", held_out)
    return tmp_path / "v.npy"


def test_one_row_that_is_not_finite_leaves_a_usable_run(tmp_path: Path, capsys: Any) -> None:
    validation = with_outlier(tmp_path)
    result = vae(tmp_path / "run", tmp_path / "train.npy", validation=str(validation))
    note = "validation: 1 of 20 rows not finite (row 3), left out of its means"
    assert result["notes"] == [note]
    assert (result["not_finite"], result["data"]) == ([3], 19)
    assert math.isfinite(result["nll_nats"])
    assert math.isfinite(result["bits_per_dim"])
    assert note in capsys.readouterr().err
    assert read_json(tmp_path / "run" / "DONE")["notes"] == [note]
    scored = likelihood.Config(
        run=tmp_path / "run", data="wine", samples=2, limit=9, proposal="posterior"
    )
    assert likelihood.main(scored)["count"] == 9


def test_the_means_of_a_validation_are_those_of_its_finite_rows(tmp_path: Path) -> None:
    vae(tmp_path / "run", "wine", steps=20)
    model = TrainedDensity.open(tmp_path / "run", "cpu").model
    x = train_density.held_out_data(train_density.Config.of(data="wine", out=tmp_path / "run"))
    torch.manual_seed(1)
    whole = measure_images(model, x, 400)
    spoilt = torch.cat([x, torch.full((2, 13), 1e30)])
    torch.manual_seed(1)
    judged = measure_images(model, spoilt, 400)
    assert judged["not_finite"] == [len(x), len(x) + 1]
    assert judged["nll_nats"] == pytest.approx(
        whole["nll_nats"], abs=5 * whole["nll_monte_carlo_error"] + 0.05
    )
    assert judged["data"] == whole["data"] == len(x)
    none = measure(
        model, [spoilt[-2:]], 4, lambda part: layered_bound(model, part), names=[7, 5]
    ).to_json()
    assert none["not_finite"] == [5, 7]
    assert math.isnan(none["nll_nats"])
    assert none["verdict"] == "the use of the latent cannot be judged: no row is finite"


def test_a_run_without_a_finite_validation_opens_its_last_checkpoint(
    tmp_path: Path, capsys: Any
) -> None:
    wine = read("wine").values
    np.save(tmp_path / "v.npy", np.full((3, 13), 1e30))
    np.save(tmp_path / "train.npy", wine)
    result = vae(
        tmp_path / "run",
        tmp_path / "train.npy",
        validation=str(tmp_path / "v.npy"),
        validate_every=2,
    )
    assert result["nll_nats"] is None
    assert result["not_finite"] == [0, 1, 2]
    assert not (tmp_path / "run" / "checkpoints" / "best").exists()
    capsys.readouterr()
    opened = open_run(TrainedDensity, tmp_path / "run", "cpu")
    note = f"{tmp_path / 'run'} holds no checkpoint 'best', for no finite validation was saved; 'last' is used"
    assert capsys.readouterr().err.strip() == f"note: {note}"
    assert opened.notes == [note]
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "last")
    with pytest.raises(InputError, match="holds no checkpoint 'best'"):
        TrainedDensity.open(tmp_path / "run", "cpu")


# Notes


def test_what_a_reader_assumed_is_in_the_result_and_in_the_run(tmp_path: Path, capsys: Any) -> None:
    np.savez(
        tmp_path / "x.npz",
        images=images("bytes"),
        labels=read("digits").labels[:300],
        other=np.zeros(3),
    )
    note = "x.npz: array 'images' is read; left out: 'other'"
    assert vae(tmp_path / "vae", tmp_path / "x.npz")["notes"] == [note]
    config = train_gan.Config.of(data=str(tmp_path / "x.npz"), out=tmp_path / "gan", **GAN)
    assert train_gan.main(config)["notes"] == [note]
    for name in ("vae", "gan"):
        assert Run.open(tmp_path / name).data_record()["data"]["notes"] == [note]
    assert capsys.readouterr().err.count(f"note: {note}") == 2
    assert evaluate_gan.main(evaluate_gan.Config(run=tmp_path / "gan", count=60))["notes"] == [note]
