"""Commands on images, tables and GANs: samples, codes, reconstructions, paths, edits, measures."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from density.trained import TrainedDensity
from experiments import (
    edit,
    encode,
    evaluate,
    evaluate_gan,
    interpolate,
    likelihood,
    reconstruct,
    sample,
    train_density,
    train_gan,
    train_text,
)
from experiments.cli.commands import parse
from experiments.data.readers import read
from experiments.gans import samples
from experiments.gans.scaling import to_grey_levels
from experiments.images.row_outputs import pairs_picture, picture
from experiments.images.rows import Rows
from gan.trained import TrainedGan
from gan.truncation import truncated_normal
from tests.old_runs import without_checksums
from univae.errors import InputError
from univae.vae.trained import TrainedText, word_overlap

FEW: dict[str, Any] = {"steps": 2, "threads": 1, "device": "cpu"}
DENSITY: dict[str, Any] = {"hidden": (12,), "validation_data": 20, "validation_samples": 2, **FEW}
GAN: dict[str, Any] = {
    "batch_size": 16, "width": 4, "latent": 8, "hidden": (8,), "feature_steps": 3, "validation_data": 60, **FEW,
}  # fmt: skip
CELL = 42  # pixels of an enlarged 8x8 image with its frame


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on binarised digits, one of two latent layers, one on a table, GANs, and one of texts."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("runs")
    (out / "texts.txt").write_text("a cat sees a dog\na dog runs\n" * 30, encoding="utf-8")
    density: dict[str, dict[str, Any]] = {
        "digits": {"data": "digits", "latents": (4,), "binarisation": "dynamic"},
        "layered": {"data": "digits", "latents": (4, 3), "hidden_above": (8,)},
        "wine": {"data": "wine", "latents": (4,)},
    }
    for name, options in density.items():
        train_density.train(train_density.Config.of(out=out / name, **{**DENSITY, **options}))
    gans: dict[str, dict[str, Any]] = {
        "gan": {"data": "digits"},
        "classes": {"data": "digits", "conditional": True},
        "gan_table": {"data": "wine"},
    }
    for name, options in gans.items():
        train_gan.train(train_gan.Config.of(out=out / name, **{**GAN, **options}))
    shape = {"width": 8, "heads": 2, "layers": 2, "latent_width": 4, "tokenizer": "bytes"}
    text = {"text": str(out / "texts.txt"), "max_length": 32, "held_out": 0.2, **shape, **FEW}
    train_text.train(train_text.Config.of(out=out / "text", **text))
    return {name: out / name for name in (*density, *gans, "text")}


def opened(run: Path) -> TrainedDensity:
    return TrainedDensity.open(run, "cpu")


def table(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Return the header and the numbers of a .csv file."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return header, np.array(rows, dtype=np.float64)


# sample


def test_images_are_drawn_in_the_levels_of_the_data(runs: dict[str, Path], tmp_path: Path) -> None:
    config = {"run": runs["digits"], "count": 4, "seed": 3, "device": "cpu"}
    result = sample.main(sample.Config(**config))
    assert result["file"] == str(runs["digits"] / "samples" / "drawn_3.npz")
    images = read(result["file"]).values
    assert images.shape == (4, 1, 8, 8)
    assert set(np.unique(images)) == {0, 16}  # black and white of 17 levels
    with Image.open(result["picture"]) as grid:
        assert grid.size == (16 * CELL, CELL)
    again = sample.main(sample.Config(**config, out=tmp_path / "again.npy"))
    assert np.array_equal(np.load(again["file"]), images)
    other = sample.main(sample.Config(**{**config, "seed": 4}))
    assert not np.array_equal(read(other["file"]).values, images)


def test_rows_of_a_table_are_drawn_in_its_units(runs: dict[str, Path]) -> None:
    result = sample.main(sample.Config(run=runs["wine"], count=300, device="cpu"))
    assert "picture" not in result
    names, rows = table(result["file"])
    assert names == [f"c{i}" for i in range(13)]
    wine = read("wine").values
    error = rows.std(0) / math.sqrt(300)
    assert (np.abs(rows.mean(0) - wine.mean(0)) < 6 * error + 0.1 * wine.std(0)).all()


def test_a_class_is_drawn_by_its_name(runs: dict[str, Path], tmp_path: Path) -> None:
    without_checksums(runs["classes"])
    record = runs["classes"] / "data.json"
    stored_record = json.loads(record.read_text())
    with pytest.raises(InputError, match="label must be a number; got label=three"):
        sample.main(sample.Config(run=runs["classes"], label="three", device="cpu"))
    names = ["zero", "one", "two", "three", *"456789"]
    changed = {**stored_record, "data": {**stored_record["data"], "class_names": names}}
    record.write_text(json.dumps(changed))
    drawn = []
    for label in ("three", 3):
        out = tmp_path / f"{label}.npz"
        config = sample.Config(run=runs["classes"], label=label, count=2, out=out, device="cpu")
        drawn.append(np.load(sample.main(config)["file"]))
    assert drawn[0]["labels"].tolist() == [3, 3]
    assert np.array_equal(drawn[0]["images"], drawn[1]["images"])
    with pytest.raises(InputError, match=r"label must be one of zero, one, .* or a number"):
        sample.main(sample.Config(run=runs["classes"], label="ten", device="cpu"))

    # Folders 1, 10, 2, ...: a number that is a name is that class.
    numbered = sorted(str(number) for number in range(1, 11))
    changed["data"]["class_names"] = numbered
    record.write_text(json.dumps(changed))
    for label, number in ((10, 1), (2, 2), (9, 9), (0, 0)):
        config = sample.Config(
            run=runs["classes"], label=label, count=1, out=tmp_path / "n.npz", overwrite=True,
            device="cpu",
        )  # fmt: skip
        assert np.load(sample.main(config)["file"])["labels"].tolist() == [number]
    by_class = parse(sample.Config, [str(runs["classes"]), "--class", "three"])
    assert by_class.label == "three"
    record.write_text(json.dumps(stored_record))


def test_rows_of_a_gan_may_be_a_table(runs: dict[str, Path], tmp_path: Path) -> None:
    config = {"run": runs["gan_table"], "count": 3, "device": "cpu"}
    names, rows = table(sample.main(sample.Config(**config, out=tmp_path / "x.csv"))["file"])
    archive = np.load(sample.main(sample.Config(**config, out=tmp_path / "x.npz"))["file"])
    assert names == [f"c{i}" for i in range(13)]
    np.testing.assert_array_equal(rows, archive["x"])


# encode and reconstruct


@pytest.mark.parametrize("name", ["digits", "layered", "wine"])
def test_codes_of_the_command_are_those_of_the_method(
    name: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    run = opened(runs[name])
    source = str(run.config["data"])
    config = {"run": runs[name], "data": source, "limit": 5, "device": "cpu"}
    result = encode.main(encode.Config(**config, out=tmp_path / "z.npy"))
    codes = np.load(result["out"])
    assert result["shape"] == list(codes.shape)
    # also where grey levels are drawn black or white
    np.testing.assert_array_equal(codes, run.encode(read(source).values[:5]))
    csv_result = encode.main(encode.Config(**config, out=tmp_path / "z.csv"))
    header, rows = table(csv_result["out"])
    assert header == [f"z{i}" for i in range(codes.shape[1])]
    np.testing.assert_allclose(rows, codes, rtol=1e-6)


def test_reconstructions_of_a_table_come_with_the_error_of_each_column(
    runs: dict[str, Path],
) -> None:
    run = opened(runs["wine"])
    config = reconstruct.Config(run=runs["wine"], data="wine", limit=0, device="cpu")
    result = reconstruct.main(config)
    wine = read("wine").values
    again = run.reconstruct(wine)
    difference = np.abs(again - wine)
    assert result["count"] == 178
    assert result["mean_absolute_error"] == pytest.approx(difference.mean())
    assert result["root_mean_squared_error"] == pytest.approx(math.sqrt((difference**2).mean()))
    assert list(result["mean_absolute_error_of_columns"].values()) == pytest.approx(
        difference.mean(0).tolist()
    )
    header, rows = table(result["file"])
    assert header[:4] == ["c0", "c0_reconstruction", "c1", "c1_reconstruction"]
    np.testing.assert_allclose(rows[:, ::2], wine)
    np.testing.assert_allclose(rows[:, 1::2], again)


def test_reconstructions_of_images_lie_below_the_originals(runs: dict[str, Path]) -> None:
    config = reconstruct.Config(run=runs["digits"], data="digits", limit=20, device="cpu")
    result = reconstruct.main(config)
    archive = np.load(result["file"])
    digits = read("digits").values[:20]
    assert np.array_equal(archive["originals"], digits)  # grey, as they were read
    assert np.array_equal(archive["images"], opened(runs["digits"]).reconstruct(digits))
    difference = archive["images"].astype(float) - digits
    assert result["mean_absolute_error"] == pytest.approx(np.abs(difference).mean())
    assert "mean_absolute_error_of_columns" not in result
    with Image.open(result["picture"]) as grid:
        assert grid.size == (16 * CELL, 4 * CELL)  # 16 and 4 pairs
        pixels = np.asarray(grid)
    assert pixels[1, 1 + 5 * 2] == round(255 * int(digits[0, 0, 0, 2]) / 16)
    assert pixels[2 * CELL + 1, 1 + 5 * 2] == round(255 * int(digits[16, 0, 0, 2]) / 16)


def test_a_picture_of_real_numbers_goes_from_black_to_white(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 4, 4)))
    options = {"data": str(tmp_path / "x.npy"), "latents": (2,), **DENSITY}
    train_density.train(train_density.Config.of(out=folder, **options))
    run = opened(folder)
    images = np.array([[[[-3.0, 1.0]] * 2], [[[1.0, -1.0]] * 2]])
    with Image.open(_file(tmp_path, picture(run, images, 2))) as grid:
        pixels = np.asarray(grid)
    zoom = 20  # to about 40 pixels
    assert (pixels[1, 1], pixels[1, 1 + zoom]) == (0, 255)
    assert abs(int(pixels[1, 43 + zoom]) - 127) <= 1
    assert pairs_picture(run, images, images)
    assert picture(run, images[:1, :, :, :1], 1)  # all equal: no division by zero


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "picture.png"
    path.write_bytes(content)
    return path


# interpolate and edit


@pytest.mark.parametrize(("name", "suffix"), [("digits", "npz"), ("wine", "csv")])
def test_a_path_starts_and_ends_at_reconstructions_of_the_training_data(
    name: str, suffix: str, runs: dict[str, Path]
) -> None:
    config = interpolate.Config(run=runs[name], start="3", end="5", steps=4, device="cpu")
    result = interpolate.main(config)
    assert (result["data"], result["rows"], result["count"]) == (name, [3, 5], 4)
    assert result["file"].endswith(f"samples/interpolated.{suffix}")
    run = opened(runs[name])
    rows = Rows(run)
    codes = run.modes(rows.inputs([3, 5]))
    ends = run.from_model(run.decode(codes))
    path = read(result["file"]).values if suffix == "npz" else table(result["file"])[1]
    np.testing.assert_allclose(path[[0, 3]], ends, rtol=1e-5)
    with_data = interpolate.main(
        interpolate.Config(run=runs[name], data=name, start="3", end="5", steps=4, device="cpu")
    )
    assert with_data == result


@pytest.mark.parametrize("value", ["x", "-1", "1797", "1.5"])
def test_ends_that_are_no_rows_are_refused(value: str, runs: dict[str, Path]) -> None:
    with pytest.raises(
        InputError, match=rf"end must be the number of a row of digits, 0\.\.1796; .*{value}"
    ):
        interpolate.main(interpolate.Config(run=runs["digits"], start="0", end=value))


def test_training_data_that_are_gone_are_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "x.npy"
    np.save(source, np.random.default_rng(0).normal(size=(40, 3)))
    options = {"data": str(source), "latents": (2,), **DENSITY}
    train_density.train(train_density.Config.of(out=tmp_path / "run", **options))
    moved = source.rename(tmp_path / "moved.npy")
    with pytest.raises(
        InputError, match=r"was trained on .*x\.npy, which is not there; give --data"
    ):
        interpolate.main(interpolate.Config(run=tmp_path / "run", start="0", end="1"))
    again = interpolate.Config(run=tmp_path / "run", start="0", end="1", data=str(moved))
    assert interpolate.main(again)["count"] == 8


def test_a_path_of_a_gan_leads_from_one_sample_to_another(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    result = interpolate.main(
        interpolate.Config(run=runs["gan"], start="4", end="7", steps=3, device="cpu")
    )
    path = np.load(result["file"])["images"]
    assert result["seeds"] == [4, 7]
    for seed, image in ((4, path[0]), (7, path[2])):
        out = tmp_path / f"{seed}.npz"
        config = sample.Config(run=runs["gan"], count=1, seed=seed, out=out, device="cpu")
        drawn = np.load(sample.main(config)["file"])["images"][0]
        assert np.abs(drawn.astype(int) - image.astype(int)).max() <= 1  # rounding of the arc
    still = interpolate.Config(run=runs["gan"], start="4", end="4", steps=2, device="cpu")
    same = np.load(interpolate.main(still)["file"])["images"]
    assert np.array_equal(same[0], same[1])


def frames(path: Path) -> list[np.ndarray]:
    """Return the grey frames of an animation, a pixel of each of the data."""
    with Image.open(path) as animation:
        images = []
        for number in range(animation.n_frames):
            animation.seek(number)
            images.append(np.asarray(animation.convert("L")).astype(int)[10::20, 10::20])
        return images


def test_an_animation_of_a_gan_is_a_circle_through_two_samples(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "walk.gif"
    config = interpolate.Config(run=runs["gan"], start="4", end="7", steps=8, out=out, device="cpu")
    result = interpolate.main(config)
    assert (result["file"], result["count"], "picture" in result) == (str(out), 8, False)
    walk = frames(out)
    assert len(walk) == 8
    model = TrainedGan.open(runs["gan"], "cpu")
    a, b = (samples._drawn(model, seed) for seed in (4, 7))
    for number, z in {0: a, 2: b, 4: -a, 6: -b, 1: (a + b) / math.sqrt(2)}.items():
        expected = to_grey_levels(model.generate(z)).round().numpy()[0, 0]
        np.testing.assert_allclose(walk[number], expected, atol=1)
    with pytest.raises(InputError, match="end must be another seed than start for a circle; got"):
        interpolate.main(replace(config, end="4", overwrite=True))
    assert len(frames(out)) == 8


def test_an_animation_between_two_images_goes_there_and_back(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    options = {"run": runs["digits"], "start": "3", "end": "5", "steps": 4, "device": "cpu"}
    out = tmp_path / "walk.gif"
    interpolate.main(interpolate.Config(**options, out=out))
    walk = frames(out)
    path = np.load(interpolate.main(interpolate.Config(**options))["file"])["images"]
    levels = opened(runs["digits"]).units.levels
    assert levels is not None
    assert len(walk) == 6
    for frame, number in zip(walk, (0, 1, 2, 3, 2, 1), strict=True):
        expected = path[number].squeeze().astype(float) * 255 / (levels - 1)
        np.testing.assert_allclose(frame, expected, atol=1)
    with pytest.raises(InputError, match=r"must end in \.csv.*"):
        interpolate.main(interpolate.Config(**{**options, "run": runs["wine"]}, out=out))


def test_truncated_samples_are_of_latents_below_the_threshold(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    run = TrainedGan.open(runs["gan"], "cpu")
    torch.manual_seed(3)
    z = truncated_normal(5, run.latent_width, 0.5)
    expected = run.from_networks(run.generate(z))
    assert np.array_equal(run.sample(5, seed=3, truncation=0.5), expected)
    assert not np.array_equal(run.sample(5, seed=3), expected)
    options = {"run": runs["gan"], "count": 5, "device": "cpu", "overwrite": True}
    drawn = {}
    for truncation in (0.0, 0.5, 50.0):
        out = tmp_path / f"{truncation}.npz"
        result = sample.main(sample.Config(**options, truncation=truncation, out=out))
        drawn[truncation] = np.load(result["file"])["images"]
    assert np.array_equal(drawn[0.0], drawn[50.0])
    assert not np.array_equal(drawn[0.0], drawn[0.5])
    with pytest.raises(InputError, match=r"truncation must be 0 \(off\), or at least 0\.01; got"):
        sample.Config(**options, truncation=0.001)
    with pytest.raises(
        InputError, match=r"truncation is an option for a GAN, and .* is the run of"
    ):
        sample.main(sample.Config(run=runs["digits"], truncation=0.5))


def test_a_path_of_a_conditional_gan_stays_in_a_class(runs: dict[str, Path]) -> None:
    config = interpolate.Config(run=runs["classes"], start="0", end="1", steps=3, device="cpu")
    result = interpolate.main(config)
    assert np.load(result["file"])["labels"].tolist() == [0, 0, 0]
    assert result["notes"] == ["all are of class 0; univae sample draws every class"]
    with pytest.raises(InputError, match="start must be the seed of a latent of the GAN"):
        interpolate.main(interpolate.Config(run=runs["classes"], start="a", end="1"))


def test_an_edit_of_an_image_keeps_the_other_layer(runs: dict[str, Path]) -> None:
    config = {"run": runs["layered"], "text": "2", "layers": "0", "count": 3, "device": "cpu"}
    result = edit.main(edit.Config(**config))
    assert (result["row"], result["layers"], result["data"]) == (2, [0], "digits")
    archive = np.load(result["file"])
    digits = read("digits").values[2:3]
    assert np.array_equal(archive["original"], digits)
    assert np.array_equal(archive["reconstruction"], opened(runs["layered"]).reconstruct(digits))
    assert archive["images"].shape == (3, 1, 8, 8)
    with Image.open(result["picture"]) as grid:
        assert grid.size == (5 * CELL, CELL)
    other = np.load(edit.main(edit.Config(**config, seed=1))["file"])["images"]
    assert not np.array_equal(other, archive["images"])
    with pytest.raises(InputError, match="depend on layer 0 alone"):
        edit.main(edit.Config(**{**config, "layers": "1"}))


def test_texts_of_every_use_are_written_where_they_are_asked_for(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    source = str(runs["text"].parent / "texts.txt")
    run = {"run": runs["text"], "device": "cpu"}
    again = reconstruct.main(
        reconstruct.Config(**run, data=source, limit=2, out=tmp_path / "r.jsonl")
    )
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [[line["text"], line["reconstruction"]] for line in lines] == again["texts"]
    walk = interpolate.main(
        interpolate.Config(**run, start="a cat", end="a dog", steps=3, out=tmp_path / "i.jsonl")
    )
    lines = [json.loads(line) for line in (tmp_path / "i.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == walk["texts"]
    edits = edit.main(
        edit.Config(**run, text="a cat", layers="0", count=2, out=tmp_path / "e.jsonl")
    )
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == edits["texts"]
    assert [line["kept_share"] for line in lines] == edits["kept_share"]


# evaluate


QUICK: dict[str, Any] = {"limit": 12, "samples": 8, "proposal": "posterior", "device": "cpu"}


@pytest.mark.parametrize("name", ["digits", "layered", "wine", "text"])
def test_an_evaluation_has_the_likelihood_and_the_bound(
    name: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    source = str(runs["text"].parent / "texts.txt") if name == "text" else "digits"
    data = {"run": runs[name], "data": "wine" if name == "wine" else source}
    scores = {
        command.__name__: tmp_path / f"{command.__name__}.csv" for command in (evaluate, likelihood)
    }
    result = evaluate.main(evaluate.Config(**data, **QUICK, out=scores[evaluate.__name__]))
    expected = likelihood.main(likelihood.Config(**data, **QUICK, out=scores[likelihood.__name__]))
    assert result["nll_nats"] == -result["log_likelihood_nats"]
    for key in ("count", "log_likelihood_nats", "standard_error_nats", "samples", "data"):
        assert result[key] == expected[key]
    for rate in (key for key in expected if key.startswith(("bits_per", "perplexity"))):
        assert result[rate] == expected[rate]
    assert scores[evaluate.__name__].read_text() == scores[likelihood.__name__].read_text()
    assert result["kl_sum_nats"] == pytest.approx(sum(result["kl_nats"]))
    assert len(result["kl_nats"]) == (2 if name in ("layered", "text") else 1)
    bound = -result["reconstruction_nats"] - result["kl_sum_nats"]
    assert result["elbo_nats"] == pytest.approx(bound)
    assert 0 <= result["active_units"] <= result["units"]
    assert result["mutual_information_nats"] <= result["mutual_information_ceiling_nats"]


def test_an_evaluation_of_texts_counts_tokens_and_words(runs: dict[str, Path]) -> None:
    source = runs["text"].parent / "texts.txt"
    result = evaluate.main(evaluate.Config(run=runs["text"], data=str(source), **QUICK))
    texts = source.read_text().splitlines()[:12]
    tokens = sum(len(text.encode()) + 1 for text in texts)
    nats = result["nll_nats"] * 12
    assert result["tokens"] == tokens
    assert result["perplexity_per_token"] == pytest.approx(math.exp(nats / tokens))
    assert result["bits_per_token"] == pytest.approx(nats / tokens / math.log(2))
    again = TrainedText.open(runs["text"], "cpu").reconstruct(texts)
    shares = [word_overlap(*pair) for pair in zip(texts, again, strict=True)]
    assert result["word_overlap"] == pytest.approx(np.mean(shares))
    assert result["reconstructed"] == 12


def test_an_evaluation_says_where_its_numbers_are_no_more_than_bounds(
    runs: dict[str, Path],
) -> None:
    source = str(runs["text"].parent / "texts.txt")
    config = evaluate.Config(run=runs["text"], data=source, limit=6, samples=64, device="cpu")
    result = evaluate.main(config)
    notes = [note for note in result["notes"] if "nll_nats is no more than an upper bound" in note]
    assert len(notes) == (result["khat_unreliable"] > 0.1)


def test_an_evaluation_without_data_asks_for_them(runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="needs --data, the data to score"):
        evaluate.main(evaluate.Config(run=runs["digits"]))
    with pytest.raises(InputError, match="samples is an option for an image or table model and a"):
        evaluate.main(evaluate.Config(run=runs["gan"], samples=3))


def test_a_gan_is_evaluated_as_before_or_on_other_real_data(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    run = {"run": runs["gan"], "count": 40, "device": "cpu"}
    own = evaluate.main(evaluate.Config(**run))
    assert own == evaluate_gan.main(evaluate_gan.Config(**run))
    # 0..16 in a file without levels: the run's training set says what they are
    np.save(tmp_path / "digits.npy", read("digits").values[:, 0])
    other = evaluate.main(evaluate.Config(**run, data=str(tmp_path / "digits.npy")))
    assert other["feature_space"] == own["feature_space"]
    distance = f"frechet[{own['feature_space']}]"
    assert other[distance] == pytest.approx(own[distance], rel=1e-3)
    assert any("not of the training set" in note for note in other["notes"])
    with pytest.raises(InputError, match=r"--data wine: a datum is \(13,\), the training set of"):
        evaluate.main(evaluate.Config(**run, data="wine"))
