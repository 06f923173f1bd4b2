"""``univae stretch``: runs that read longer texts with the weights of another run."""

import json
from pathlib import Path

import pytest
import torch

import univae
from experiments import calibrate, likelihood, stretch, train_text
from tests.golden import make
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.sentence.trained import TrainedSimilar
from univae.vae.trained import TrainedText

LONG = " ".join(["the cat sees a ball"] * 30)


def stretched_run(name: str, folder: Path, length: int = 1024) -> Path:
    run = make.copy_run(name, folder)
    out = folder / "longer run"
    result = stretch.main(stretch.Config(run=run, out=out, length=length))
    assert result["stretched_from"] == str(run)
    assert result["max_length"] == length
    assert "another model" in result["notes"][0]
    return out


def test_a_text_run_scores_texts_that_were_too_long(tmp_path: Path) -> None:
    name = "text"
    out = stretched_run(name, tmp_path)
    opened = univae.load(out)
    assert isinstance(opened, TrainedText)
    original = univae.load(tmp_path / name)
    assert isinstance(original, TrainedText)
    for key, weights in original.model.state_dict().items():
        assert torch.equal(weights, opened.model.state_dict()[key])
    data = tmp_path / "long.txt"
    data.write_text(LONG + "\n", encoding="utf-8")
    assert len(opened.token_ids([LONG])[0]) > original.model.config.max_length
    config = likelihood.Config(run=out, data=str(data), samples=8, proposal="posterior")
    result = likelihood.main(config)
    assert result["count"] == 1
    assert any("max_length=64" in note and "extrapolates" in note for note in result["notes"])
    assert json.loads((out / "config.json").read_text())["scale"] == "log_n_clip"


def test_a_sentence_run_reads_long_texts_to_their_end(tmp_path: Path) -> None:
    name = "similar"
    out = stretched_run(name, tmp_path)
    longer = univae.load(out)
    original = univae.load(tmp_path / name)
    assert isinstance(longer, TrainedSimilar)
    assert isinstance(original, TrainedSimilar)
    other_end = LONG + " and an old dog"
    assert (original.encode([LONG]) == original.encode([other_end])).all()
    assert (longer.encode([LONG]) != longer.encode([other_end])).any()


def test_a_damaged_run_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = stretched_run("text", tmp_path)  # has digests
    weights = source / "checkpoints" / "best" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    out = tmp_path / "out"
    with pytest.raises(InputError, match="has changed since the checkpoint 'best' was saved"):
        stretch.main(stretch.Config(run=source, out=out, length=2048))
    assert not out.exists()


def test_training_goes_on_from_a_stretched_run_alone(tmp_path: Path) -> None:
    out = stretched_run("text", tmp_path)
    config = json.loads((out / "config.json").read_text())
    assert config["out"] == str(out)
    assert config["batch_tokens"] >= 1024
    assert not (out / "checkpoints" / "last").exists()
    with pytest.raises(InputError, match="without the state of a training"):
        calibrate.main(calibrate.Config(run=out))
    data = Path(make.__file__).parent / "data" / "texts.txt"
    further = tmp_path / "further"
    result = train_text.train(
        train_text.Config.of(text=str(data), out=further, from_run=out, steps=1, calibration=0.0)
    )
    assert result["steps"] == 1
    opened = univae.load(further)
    assert isinstance(opened, TrainedText)
    assert opened.model.config.rotary_base > 10_000


def test_a_stretched_run_is_not_resumed_from_random_weights(tmp_path: Path) -> None:
    data = Path(make.__file__).parent / "data" / "texts.txt"
    options: JsonObject = {"text": str(data), "steps": 1, "calibration": 0.0, "batch_tokens": 512}
    options |= {"width": 8, "heads": 1, "layers": 2, "max_length": 64}
    run = tmp_path / "run"
    train_text.main(train_text.Config.of(out=run, **options))
    out = tmp_path / "longer"
    changed = stretch.main(stretch.Config(run=run, out=out, length=256))
    options |= {name: changed[name] for name in stretch.CHANGED}
    with pytest.raises(InputError, match="train on with --from and a new --out"):
        train_text.main(train_text.Config.of(out=out, resume=True, **options))


def test_what_cannot_be_stretched_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    run = make.copy_run("text", tmp_path)
    out = tmp_path / "out"
    with pytest.raises(InputError, match="above the model's max_length=64; got 64"):
        stretch.main(stretch.Config(run=run, out=out, length=64))
    images = make.copy_run("images", tmp_path)
    with pytest.raises(InputError, match="not texts"):
        stretch.main(stretch.Config(run=images, out=out, length=256))
    assert not out.exists()
