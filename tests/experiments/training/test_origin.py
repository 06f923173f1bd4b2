"""Training may start from the best weights of another run, whose options and units it inherits."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments import train_density, train_gan, train_text
from experiments.cli import commands as cli
from experiments.training.loop import fit_task
from experiments.training.origin import fingerprint_file
from experiments.training.run_folder import Run
from tests.damage import flip_a_bit
from tests.experiments.training.test_loop import SETTINGS, Toy, assert_equal, train
from univae.checkpoint import load_state, read_json
from univae.errors import InputError

TEXT = ("train-text", "--tokenizer", "words", "--width", 16, "--heads", 2, "--layers", 2)
TEXT += ("--latent-width", 4, "--max-length", 20)
QUICK_TEXT = ("--calibration", 0, "--validation-samples", 2, "--validation-texts", 4)
TABLE = ("train-density", "--latents", 3, "--hidden", 8, "--activation", "relu")
QUICK_TABLE = ("--validation-data", 10, "--validation-samples", 2)
GAN = ("train-gan", "--hidden", 8, "--latent", 4)
QUICK_GAN = ("--validation-data", 20, "--batch-size", 16, "--no-rescale")
STILL = ("--lr", 1e-12, "--weight-decay", 0, "--steps", 1, "--threads", 1)


def weights(path: Path, checkpoint: str = "best") -> dict[str, Tensor]:
    return load_file(path / "checkpoints" / checkpoint / "model.safetensors")


def test_weights_that_have_changed_since_they_were_saved_are_no_origin(tmp_path: Path) -> None:
    _, _, first = train(tmp_path / "first", SETTINGS)
    options = {**asdict(SETTINGS), "from_run": str(first.path)}
    flip_a_bit(first.checkpoint("best") / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: has changed since"):
        fit_task(Toy(), SETTINGS, Run.create(tmp_path / "second", options))


def trained_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of the best step themselves, not their moving average."""
    state = load_state(path / "checkpoints" / "best" / "optimizer.pt")
    return state.get("weights", weights(path))


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def started(*argv: object, code: int = 0) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert stop.value.code == code, err
        return json.loads(out.splitlines()[-1]) if code == 0 else {"error": err.strip()}

    return started


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_training_starts_from_the_best_weights_and_continues_their_average(
    tmp_path: Path, ema: float
) -> None:
    _, _, first = train(tmp_path / "first", replace(SETTINGS, ema=ema))
    settings = replace(SETTINGS, ema=ema, steps=1, lr=1e-15, weight_decay=0.0)
    task = Toy()
    seen: list[dict[str, Tensor]] = []
    task.hooks[0] = lambda: seen.append({k: v.clone() for k, v in task.module.named_parameters()})
    run = Run.create(tmp_path / "second", {**asdict(settings), "from_run": str(first.path)})
    fit_task(task, settings, run)
    saved = weights(first.path)
    trained = saved
    if ema:
        trained = load_state(first.checkpoint("best") / "optimizer.pt")["weights"]
    assert_equal(seen[0], {name: trained[name] for name in seen[0]})
    state = read_json(run.checkpoint("last") / "state.json")
    assert (state["step"], state["epoch"]) == (1, 0)
    if ema:  # one update moves the average of the other run, not its last weights
        updates = load_state(first.checkpoint("best") / "optimizer.pt")["updates"]
        share = 1 - min(ema, (1 + updates) / (10 + updates))
        expected = saved["0.weight"].lerp(trained["0.weight"], share)
        torch.testing.assert_close(weights(run.path, "last")["0.weight"], expected)


def test_a_text_run_has_the_model_and_the_tokenizer_of_the_run_it_starts_from(
    tmp_path: Path, run: Callable[..., dict[str, Any]]
) -> None:
    for name, words in (("a", "red blue cat dog"), ("b", "cat fish sees dog")):
        texts = [f"{word} {other}" for word in words.split() for other in words.split()] * 4
        (tmp_path / f"{name}.txt").write_text("\n".join(texts))
    first = tmp_path / "first"
    second = tmp_path / "second"
    run(*TEXT, *QUICK_TEXT, "--text", tmp_path / "a.txt", "--out", first, "--steps", 2)
    argv = ("train-text", *QUICK_TEXT, *STILL, "--text", tmp_path / "b.txt", "--out", second)
    # inherited options win over a preset, explicit ones that may differ over inherited ones
    result = run(*argv, "--from", first, "--preset", "tiny", "--dropout", 0.1)
    assert result["trained_from"] == str(first)
    assert (second / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    torch.testing.assert_close(weights(second), weights(first))
    config = read_json(second / "config.json")
    assert (config["width"], config["max_length"], config["dropout"]) == (16, 20, 0.1)
    file = first / "checkpoints" / "best" / "model.safetensors"
    assert read_json(second / "data.json")["from"]["fingerprint"] == fingerprint_file(file)
    first.rename(tmp_path / "moved")  # a run that has weights of its own needs no others
    assert run(*argv[:1], "--out", second, "--resume", "--steps", 2)["steps"] == 2


def test_tables_keep_the_units_of_the_weights(
    tmp_path: Path, run: Callable[..., dict[str, Any]]
) -> None:
    draw = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", draw.normal(3.0, 2.0, (80, 3)))
    np.save(tmp_path / "b.npy", draw.normal(50.0, 9.0, (80, 3)))
    for command, quick in ((TABLE, QUICK_TABLE), (GAN, QUICK_GAN)):
        first = tmp_path / f"{command[0]}-first"
        second = tmp_path / f"{command[0]}-second"
        run(*command, *quick, "--data", tmp_path / "a.npy", "--out", first, "--steps", 2)
        argv = (command[0], *quick, *STILL, "--data", tmp_path / "b.npy", "--out", second)
        assert run(*argv, "--from", first)["trained_from"] == str(first)
        torch.testing.assert_close(trained_weights(second), trained_weights(first))
        before = read_json(first / "data.json")["data"]
        after = read_json(second / "data.json")["data"]
        assert (after["centre"], after["spread"]) == (before["centre"], before["spread"])
        assert run(command[0], "--out", second, "--resume", "--steps", 2)["steps"] == 2


def named_columns(path: Path, seed: int, colours: str, header: str = "size,colour,count") -> Path:
    """Write a table of a real number, a category and a count."""
    draw = np.random.default_rng(seed)
    lines = [header]
    for _ in range(40):
        lines.append(f"{draw.normal():.4f},{draw.choice(list(colours))},{draw.poisson(3)}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_a_table_of_named_columns_is_read_with_the_schema_of_the_weights(
    tmp_path: Path, run: Callable[..., dict[str, Any]]
) -> None:
    first = tmp_path / "first"
    data = named_columns(tmp_path / "a.csv", 0, "rgb")
    run(*TABLE, *QUICK_TABLE, "--data", data, "--count", "count", "--out", first, "--steps", 1)
    other = named_columns(tmp_path / "b.csv", 1, "rb")  # fewer categories, another mean
    second = tmp_path / "second"
    argv = ("train-density", *QUICK_TABLE, *STILL, "--from", first)
    run(*argv, "--data", other, "--out", second)
    torch.testing.assert_close(trained_weights(second), trained_weights(first))
    before = read_json(first / "data.json")["data"]
    assert read_json(second / "data.json")["data"]["columns"] == before["columns"]
    assert read_json(second / "config.json")["count"] == ["count"]
    assert run("train-density", "--out", second, "--resume", "--steps", 2)["steps"] == 2

    refused = {
        "'x' is not one of the 3 values": ("--data", named_columns(tmp_path / "c.csv", 2, "rx")),
        "lacks the column 'size'": (
            "--data",
            named_columns(tmp_path / "d.csv", 2, "rgb", "length,colour,count"),
        ),
        "categorical=['colour']: --from": ("--data", other, "--categorical", "colour"),
        "a datum is (1, 8, 8)": ("--data", "digits"),
    }
    for message, options in refused.items():
        error = run(*argv, *options, "--out", tmp_path / "third", code=2)["error"]
        assert message in error
        assert "\n" not in error
        assert not (tmp_path / "third").exists()


def test_images_are_read_in_the_levels_of_the_weights(
    tmp_path: Path, run: Callable[..., dict[str, Any]]
) -> None:
    images = np.random.default_rng(0).integers(0, 17, (40, 1, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)  # a file of 8 bits; the digits have 17 levels
    first = tmp_path / "first"
    run(*TABLE, *QUICK_TABLE, "--data", "digits", "--out", first, "--steps", 1)
    argv = ("train-density", *QUICK_TABLE, *STILL, "--data", tmp_path / "images.npy")
    result = run(*argv, "--out", tmp_path / "second", "--from", first)
    assert read_json(tmp_path / "second" / "model.json") == read_json(first / "model.json")
    assert result["notes"] == [
        "images: 0..16 are read as 17 levels, as those of the training set are"
    ]
    assert run("calibrate", tmp_path / "second", "--steps", 1)["calibration"]["steps"] == 1


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained run on a table, beside the table."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("table")
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(80, 3)))
    np.save(folder / "wide.npy", np.random.default_rng(0).normal(size=(80, 4)))
    options = {"latents": (3,), "hidden": (8,), "validation_data": 10, "validation_samples": 2}
    data = str(folder / "a.npy")
    train_density.train(train_density.Config.of(out=folder / "run", data=data, steps=1, **options))
    return folder


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--hidden", 9), r"hidden=[9]: --from RUN has hidden=[8]; leave it out"),
        (("--latents", 50), r"latents=[50]: --from RUN has latents=[3]; leave it out"),
        (("--data", "wide.npy"), "a datum is (4,), the run RUN has (3,)"),
        (("--out", "run/sub"), "--from RUN: --out must lie outside of it; give another --out"),
        (("--from", "nowhere"), "nowhere does not exist"),
    ],
)
def test_what_does_not_fit_the_weights_is_refused_and_leaves_nothing(
    table: Path,
    run: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(table)
    base = ("train-density", "--data", "a.npy", "--out", "new", "--from", table / "run")
    error = run(*base, *argv, code=2)["error"]
    assert "\n" not in error
    assert message.replace("RUN", str(table / "run")) in error
    assert not (table / "new").exists()
    assert not (table / "run" / "sub").exists()


@pytest.mark.parametrize("module", [train_text, train_gan])
def test_a_run_of_another_kind_is_refused(table: Path, module: Any, tmp_path: Path) -> None:
    data = {"text" if module is train_text else "data": str(table / "a.npy")}
    config = module.Config.of(out=tmp_path / "run", from_run=table / "run", **data)
    with pytest.raises(InputError, match=f"is a run of train-density; {config.command} starts"):
        module.train(config)
    assert not (tmp_path / "run").exists()


def test_a_weights_file_that_has_changed_is_refused_until_the_run_has_its_own(
    table: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"data": str(table / "a.npy"), "validation_data": 10}
    config = train_density.Config.of(out=tmp_path / "run", from_run=table / "run", **options)
    prepared = train_density.prepare(
        train_density.inherit(config, config.INHERITED),
        train_density.World(0, 1, torch.device("cpu")),
    )
    record = read_json(prepared.run.path / "data.json")
    record["from"]["fingerprint"] = "0"
    (prepared.run.path / "data.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"have changed since \(from .*: 1 then, 1 now\)"):
        train_density.train(config.change(resume=True))
