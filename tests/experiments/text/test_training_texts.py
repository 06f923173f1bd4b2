"""Training on several files, folders and columns: one corpus, which a resumed run recognises."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import train_text
from experiments.cli import commands as cli
from experiments.text.sources import sources_of
from experiments.training.run_folder import Run
from univae.errors import InputError
from univae.text.corpus import Corpus
from univae.text.tokenizers import train_tokenizer

LINES = [f"the {a} cat {b} a tree" for a in ("old", "red", "wet") for b in "abcdefgh"]
OPTIONS: dict[str, Any] = {
    "width": 16, "heads": 2, "layers": 1, "latent_layers": 1, "latent_width": 4, "steps": 1,
    "batch_tokens": 96, "max_length": 24, "tokenizer": "words", "held_out": 0.2, "threads": 1,
    "validation_samples": 2, "validate_every": 0, "checkpoint_every": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def sources(tmp_path: Path) -> tuple[str, ...]:
    """Return a file, a compressed file and a folder, which hold the lines together."""
    (tmp_path / "a.txt").write_text("\n".join(LINES[:8]) + "\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n".join(LINES[8:16]).encode()))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c.txt").write_text("\n".join(LINES[16:]) + "\n\n")
    return tuple(str(tmp_path / name) for name in ("a.txt", "b.txt.gz", "folder"))


def config(out: Path, **options: Any) -> train_text.Config:
    return train_text.Config.of(**{**OPTIONS, "out": out, **options})


def test_several_files_are_one_corpus(sources: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("\n".join(LINES) + "\n")
    whole = train_text.train(config(tmp_path / "whole", text=str(tmp_path / "all.txt")))
    parts = train_text.train(config(tmp_path / "parts", text=sources))
    same = ("nll_nats", "elbo_nats", "steps")
    assert {key: whole[key] for key in same} == {key: parts[key] for key in same}
    record = Run.open(tmp_path / "parts").data_record()["text"]
    assert record["source"] == ", ".join(sources)
    assert (
        record["fingerprint"] == Run.open(tmp_path / "whole").data_record()["text"]["fingerprint"]
    )
    assert record["notes"] == ["--text: left out 1 blank line"]
    stored = json.loads((tmp_path / "parts" / "config.json").read_text())["text"]
    assert stored == list(sources)
    assert train_text.held_out_texts(config(tmp_path / "parts", text=sources))


def test_a_run_of_several_files_resumes_and_refuses_changed_ones(
    sources: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = tuple(Path(source).name for source in sources)
    first = train_text.train(config(tmp_path / "run", text=relative))
    argv = ["train-text", "--out", str(tmp_path / "run"), "--resume"]
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 0
    resumed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert resumed["validation_nll_nats"] == first["nll_nats"]
    with Path(sources[2], "c.txt").open("a") as file:
        file.write("another text\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "other data, which have changed since (text " in error
    assert "24 then, 25 now" in error


def test_a_column_is_trained_on_and_remembered(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = "".join(f"{i},x{i % 2},{line}\n" for i, line in enumerate(LINES))
    table.write_text("id,title words,body\n" + rows)
    with pytest.raises(InputError, match="2 columns may hold the texts; choose one: table"):
        train_text.train(config(tmp_path / "run", text=str(table)))
    assert not (tmp_path / "run" / "config.json").exists()
    settings = config(tmp_path / "named", text=str(table), column="body")
    first = train_text.train(settings)
    assert train_text.train(settings.change(resume=True)) == first
    (source,) = sources_of(settings.data, settings.out)
    assert list(source.texts.read()) == LINES
    behind = train_text.train(config(tmp_path / "behind", text=f"{table}:body"))
    assert behind["nll_nats"] == first["nll_nats"]


def test_no_file_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--text needs at least one file"):
        config(tmp_path / "run", text=())


@pytest.mark.slow
def test_two_processes_tokenise_their_shares_of_the_shards(
    tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    texts = [f"a text of {i} {'words ' * (i % 5)}" for i in range(60)]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    flags = ["--text", tmp_path / "texts.txt", "--out", tmp_path / "run", "--tokenizer", "bytes"]
    flags += ["--max-length", 64, "--width", 8, "--heads", 2, "--layers", 2, "--latent-layers", 1]
    flags += ["--validation-texts", 2, "--validation-samples", 2, "--steps", 2, "--device", "cpu"]
    flags += ["--batch-tokens", 128]
    assert started(2, "tests.experiments.sharded_training", *flags)["steps"] == 2
    corpus = Corpus.open(tmp_path / "run" / "corpus")
    bytes_of = train_tokenizer("bytes", [])
    assert [bytes_of.decode(corpus[i]) for i in range(len(corpus))] == texts
    names = sorted(path.name for path in corpus.folder.iterdir())
    count = len(corpus.shards)
    assert count >= 4
    assert names == [
        "corpus.json",
        *(f"ids-{i:05d}.bin" for i in range(count)),
        *(f"offsets-{i:05d}.npy" for i in range(count)),
    ]
