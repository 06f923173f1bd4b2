"""Published weights as a user meets them: import, --init-from, and the way back out."""

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make

import univae
from experiments import export, import_weights, train_similar, train_text
from univae.checkpoint import read_json, read_weights
from univae.errors import InputError
from univae.huggingface import Checkpoint
from univae.sentence.trained import TrainedSimilar

transformers = pytest.importorskip("transformers")

from experiments.benchmarks.import_parity import CASES, TARGETS, TEXTS, write_checkpoint  # noqa: E402

TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _quiet(unchecked: None) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    write_checkpoint(CASES["embeddings of half the width"], folder)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(text + "\n" for text in (*TEXTS, *TARGETS) * 10), encoding="utf-8")
    return path


def vectors_of_transformers(folder: Path) -> np.ndarray:
    """Return the first rows of the last layer, of length 1."""
    model = transformers.RoFormerModel.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = model(**tokenizer(list(TEXTS), padding=True, return_tensors="pt"))[0][:, 0]
    return torch.nn.functional.normalize(rows, dim=-1).numpy()


def imported(checkpoint: Path, **options: Any) -> TrainedSimilar:
    run = checkpoint.parent / "run"
    import_weights.main(import_weights.Config(checkpoint=str(checkpoint), run=run, **options))
    opened = univae.load(run)
    assert isinstance(opened, TrainedSimilar)
    return opened


def test_an_imported_checkpoint_has_the_vectors_of_transformers(checkpoint: Path):
    run = imported(checkpoint)
    np.testing.assert_allclose(
        run.encode(TEXTS), vectors_of_transformers(checkpoint), atol=TOLERANCE
    )
    assert run.config["command"] == "train-similar"
    assert (run.path / "DONE").exists()
    found = run.search(TEXTS, TEXTS[0], count=1)[0][0]
    assert found[0] == TEXTS[0]
    assert found[1] == pytest.approx(1, abs=1e-5)


def test_the_way_back_gives_the_same_vectors_without_code_of_univae(checkpoint: Path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    run = imported(checkpoint, pooling="mean", max_length=5)
    out = checkpoint.parent / "out"
    result = export.main(export.Config(run=run.path, out=out, format="sentence-transformers"))
    assert not any(name.endswith(".py") for name in result["files"])
    model = sentence_transformers.SentenceTransformer(str(out), device="cpu")
    texts = [*TEXTS, "今天天气" * 20]  # the last is cut
    np.testing.assert_allclose(model.encode(texts), run.encode(texts), atol=TOLERANCE)

    again = checkpoint.parent / "again"
    export.main(export.Config(run=run.path, out=again, format="huggingface"))
    np.testing.assert_allclose(
        vectors_of_transformers(again), vectors_of_transformers(checkpoint), atol=TOLERANCE
    )


def test_words_of_jieba_go_out_with_their_own_module(tmp_path: Path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    write_checkpoint(CASES["words by Jieba"], tmp_path / "published")
    run = imported(tmp_path / "published")
    out = tmp_path / "out"
    result = export.main(export.Config(run=run.path, out=out, format="sentence-transformers"))
    assert "univae_encoder.py" in result["files"]
    model = sentence_transformers.SentenceTransformer(
        str(out), device="cpu", trust_remote_code=True
    )
    np.testing.assert_allclose(model.encode(list(TEXTS)), run.encode(TEXTS), atol=TOLERANCE)


def test_a_model_that_no_roformer_expresses_is_refused_and_nothing_is_written(tmp_path: Path):
    run = make.copy_run("similar", tmp_path)
    with pytest.raises(InputError, match=r"norm=post.*use --format sentence-transformers"):
        export.main(export.Config(run=run, out=tmp_path / "out", format="huggingface"))
    assert not (tmp_path / "out").exists()


def text_config(checkpoint: Path, texts: Path, out: Path, **options: Any) -> train_text.Config:
    defaults = {
        "text": str(texts),
        "out": out,
        "init_from": str(checkpoint),
        "latent_layers": 1,
        "latent_width": 2,
        "max_length": 16,
        "batch_tokens": 64,
        "validation_texts": 8,
        "calibration": 0.0,
        "threads": 1,
        "steps": 2,
        "warmup": 0.0,
        "lr_floor": 1.0,
    }
    return train_text.Config.of(**{**defaults, **options})


def test_training_starts_from_the_weights_and_is_resumed_without_them(
    checkpoint: Path, texts: Path, tmp_path: Path
):
    whole = tmp_path / "whole"
    train_text.train(text_config(checkpoint, texts, whole, steps=4))
    parts = tmp_path / "parts"
    train_text.train(text_config(checkpoint, texts, parts, steps=2))
    shutil.rmtree(checkpoint)
    options = read_json(parts / "config.json")
    assert (options["width"], options["embedding_width"], options["tokenizer"]) == (
        32, 16, "wordpiece",
    )  # fmt: skip
    resumed = text_config(checkpoint, texts, parts, steps=4)
    values = {**resumed.flat(), **{name: options[name] for name in options if name != "steps"}}
    train_text.train(train_text.Config.of(**{**values, "out": parts, "resume": True}))
    a, b = (read_weights(run / "checkpoints/last/model.safetensors") for run in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_resumed_run_refuses_another_checkpoint(checkpoint: Path, texts: Path, tmp_path: Path):
    out = tmp_path / "run"
    config = text_config(checkpoint, texts, out)
    train_text.train(config)
    options = {**config.flat(), **read_json(out / "config.json"), "out": out, "resume": True}
    train_text.train(train_text.Config.of(**options))  # as it was
    with pytest.raises(InputError, match=r"--init-from other: \S+ was started with \S+published"):
        train_text.train(train_text.Config.of(**{**options, "init_from": "other"}))


def test_no_step_leaves_the_published_weights_and_the_folder_says_where_they_are_from(
    checkpoint: Path, texts: Path, tmp_path: Path
):
    out = tmp_path / "run"
    result = train_text.train(text_config(checkpoint, texts, out, steps=1, lr=1e-30))
    assert result["trained_from"] == str(checkpoint)
    assert any("new weights in infer, inject" in note for note in result["notes"])
    weights = read_weights(out / "checkpoints/last/model.safetensors")
    expected = Checkpoint.open(checkpoint).text_vae(latent_layers=1, latent_width=2)
    for name, parameter in expected.named_parameters():
        if not name.startswith(("infer", "inject")):
            torch.testing.assert_close(weights[name], parameter, atol=1e-12, rtol=0)
    record = read_json(out / "data.json")["from"]
    assert record["source"] == str(checkpoint)
    assert len(record["fingerprint"]) == 32


def test_a_sentence_model_starts_from_a_checkpoint(checkpoint: Path, tmp_path: Path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(
        "今天天气\t天气很好\n手机号码\t号码\n花呗\t更改花呗\n小猫\tcat\n", encoding="utf-8"
    )
    config = train_similar.Config.of(
        pairs=(pairs,), out=tmp_path / "run", init_from=str(checkpoint), steps=1, lr=1e-30,
        held_out=0.5, batch_size=2, threads=1, pooling="first",
    )  # fmt: skip
    train_similar.train(config)
    vectors = univae.load(tmp_path / "run").encode(TEXTS)
    np.testing.assert_allclose(vectors, vectors_of_transformers(checkpoint), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 64}, r"width=64: --init-from \S+ has width=32; leave it out"),
        ({"tokenizer": "bytes"}, r"tokenizer=bytes: --init-from \S+ has tokenizer=wordpiece"),
        ({"from_run": Path("other")}, "other does not exist"),
        ({"init_from": "nothing"}, "nothing: no such folder"),
        ({"latent_layers": 9}, r"latent_layers must lie in 1..layers"),
    ],
)
def test_options_that_do_not_fit_the_checkpoint_are_refused(
    checkpoint: Path, texts: Path, tmp_path: Path, options: dict[str, Any], message: str
):
    out = tmp_path / "run"
    with pytest.raises(InputError, match=message) as caught:
        train_text.train(text_config(checkpoint, texts, out, **options))
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_import_refuses_what_it_cannot_read_and_writes_nothing(checkpoint: Path):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(InputError, match="model_type must be one of roformer, bert, gpt2"):
        imported(checkpoint)
    assert not (checkpoint.parent / "run").exists()
