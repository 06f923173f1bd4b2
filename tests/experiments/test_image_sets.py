"""Commands on image files: a run reads them as it was trained on them, a codec without loss."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from density.trained import TrainedDensity
from experiments import compress, decompress, likelihood, train_density, train_gan
from experiments.cli.options import parse
from experiments.data import image_cache
from experiments.data.image_files import ImageFiles
from experiments.data.image_options import ImageReading, stored_reading
from experiments.data.readers import read
from experiments.images.run import fit_to
from tests.experiments.data.test_image_files import grey, saved
from univae.errors import InputError
from univae.run_folder import RunFolder

SMALL = {"steps": 2, "latents": (2,), "hidden": (8,), "validation_samples": 2, "threads": 1}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def mixed_sizes(folder: Path) -> Path:
    """Save 30 images of two classes and many sizes, some of them transparent."""
    for number in range(30):
        array = grey(10 + number % 5, 12, 4)
        name = f"{('cat', 'dog')[number % 2]}/{number:02}.png"
        saved(folder / name, array if number % 3 else array[..., :3])
    return folder


def trained(out: Path, data: Path, **options: object) -> train_density.Config:
    config = train_density.Config.of(data=str(data), out=out, **SMALL, **options)
    train_density.train(config)
    return config


def test_a_run_scores_images_as_it_was_trained_on_them(tmp_path: Path) -> None:
    data = mixed_sizes(tmp_path / "set")
    trained(tmp_path / "run", data, size=6, resize="pad", background="black", channels="1")
    options = {"samples": 2, "proposal": "posterior"}
    result = likelihood.main(likelihood.Config(run=tmp_path / "run", data=str(data), **options))
    assert result["count"] == 30
    notes = [note for note in result["notes"] if "flattened onto black" in note]
    assert notes == ["set: 20 of 30 images with transparent pixels, flattened onto black"]
    record = RunFolder.open(tmp_path / "run").data_record()["data"]
    assert record["shape"] == [1, 6, 6]
    assert record["class_names"] == ["cat", "dog"]


def test_a_resumed_run_keeps_its_reading_and_may_move_its_cache(tmp_path: Path) -> None:
    data = mixed_sizes(tmp_path / "set")
    config = trained(tmp_path / "run", data, size=6)
    with pytest.raises(InputError, match="size: 6 -> 8"):
        train_density.train(config.change(resume=True, size=8))
    train_density.train(config.change(resume=True, cache=str(tmp_path / "cache")))
    assert (tmp_path / "cache").is_dir()


def test_a_run_that_is_older_than_the_options_of_images_has_their_defaults(tmp_path: Path) -> None:
    for number, image in enumerate(grey(30, 6, 6)):
        saved(tmp_path / "set" / f"{number:02}.png", image)
    config = trained(tmp_path / "run", tmp_path / "set")
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    for field in dataclasses.fields(ImageReading):
        del stored[field.name]
    path.write_text(json.dumps(stored))
    assert stored_reading(RunFolder.open(tmp_path / "run")) == ImageReading()
    train_density.train(config.change(resume=True))


def test_a_large_set_is_cached_in_the_folder_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "LARGE", 1)
    data = mixed_sizes(tmp_path / "set")
    options = {
        "data": str(data),
        "size": 8,
        "batch_size": 8,
        "steps": 1,
        "threads": 1,
        "feature_steps": 1,
    }
    train_gan.train(train_gan.Config.of(out=tmp_path / "run", network="mlp", **options))
    (entry,) = (path for path in (tmp_path / "run" / "inputs").iterdir() if path.is_dir())
    stored = np.load(entry / "images.npy")
    again = read(data, ImageFiles(ImageReading(size=8)))
    assert np.array_equal(stored, again.values)


@pytest.mark.parametrize("joined", [False, True])
def test_fit_is_resize_for_images_and_of_the_calibration_otherwise(
    joined: bool, tmp_path: Path
) -> None:
    def arguments(value: str) -> list[str]:
        fit = [f"--fit={value}"] if joined else ["--fit", value]
        return ["--data", "digits", "--out", str(tmp_path / "run"), "--size", "8", *fit]

    config = parse(train_density.Config, arguments("pad"), {}, "train-density")
    assert (config.images.resize, config.calibration.fit) == ("pad", "posterior")
    config = parse(train_density.Config, arguments("model"), {}, "train-density")
    assert (config.images.resize, config.calibration.fit) == ("crop", "model")
    config = parse(train_gan.Config, arguments("stretch"), {}, "train-gan")
    assert config.images.resize == "stretch"


# Codec


@pytest.mark.parametrize(("channels", "mode"), [(2, "LA"), (4, "RGBA")])
def test_images_with_alpha_are_trained_on_compressed_and_written_as_png(
    tmp_path: Path, channels: int, mode: str
) -> None:
    for number, image in enumerate(grey(30, 6, 5, channels)):
        saved(tmp_path / "set" / f"{number:02}.png", image)
    options = {"likelihood": "logistic", "binarisation": "none", "alpha": "keep"}
    trained(tmp_path / "run", tmp_path / "set", **options)
    file = tmp_path / "a.bits"
    compress.main(
        compress.Config(run=tmp_path / "run", data=str(tmp_path / "set"), out=file, ideal_samples=0)
    )
    decompress.main(decompress.Config(run=tmp_path / "run", data=file, out=tmp_path / "back"))
    keep = ImageFiles(ImageReading(alpha="keep"))
    assert np.array_equal(read(tmp_path / "back", keep).values, read(tmp_path / "set", keep).values)
    with Image.open(next((tmp_path / "back").glob("*.png"))) as picture:
        assert picture.mode == mode


def test_a_codec_stores_what_a_reading_would_lose(tmp_path: Path) -> None:
    data = mixed_sizes(tmp_path / "set")
    run = trained(tmp_path / "run", data, size=6, channels="1").out
    saved(data / "alpha.png", np.zeros((6, 6, 4), np.uint8))
    before = {path.relative_to(data): path.read_bytes() for path in data.rglob("*.png")}
    packed = tmp_path / "a.bits"
    compress.main(compress.Config(run=run, data=str(data), out=packed, ideal_samples=0))
    decompress.main(decompress.Config(run=run, data=packed, out=tmp_path / "again"))
    again = tmp_path / "again"
    assert {p.relative_to(again): p.read_bytes() for p in again.rglob("*.png")} == before


def test_images_of_another_size_are_resized_to_the_size_of_the_run(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", mixed_sizes(tmp_path / "set"), size=6, channels="3").out
    saved(tmp_path / "other" / "a.png", grey(9, 20))
    opened = TrainedDensity.open(run, "cpu")
    assert fit_to(opened, read(tmp_path / "other", ImageFiles.of_run(opened.folder))).shape == (
        3,
        6,
        6,
    )
