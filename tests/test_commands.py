"""The commands on a run of the real thing, small: what they return, and what they say to bad input."""

import csv
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from density.importance import estimate
from experiments import cli, compare, edit, encode, interpolate, likelihood, reconstruct, report, sample, train_text
from experiments.run import TIMING, Run
from experiments.text_run import TextRun
from experiments.text_task import TextTask, measure_texts
from univae.checkpoint import load_weights
from univae.text import PAD

WORDS = ("the", "a", "no", "small", "large", "red", "blue", "cat", "dog", "bird", "sees", "likes", "old", "new", "fish")
SHAPE = {"width": 16, "heads": 2, "layers": 2, "latent_layers": 2, "latent_width": 4, "vocab_size": 300}
TRAINING = {"steps": 12, "batch_tokens": 128, "validation_texts": 20, "validation_samples": 4, "log_every": 4}


def lines(count: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(2, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "texts.txt"
    path.write_text("\n".join(lines(300)) + "\n", encoding="utf-8")
    return path


def config(texts: Path, out: Path, **options) -> train_text.Config:
    return train_text.Config(**{**SHAPE, **TRAINING, "text": str(texts), "out": out, "tokenizer": "words", **options})


@pytest.fixture(scope="module")
def folder(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train_text.main(config(texts, out))
    return out


@pytest.fixture
def opened(folder: Path) -> TextRun:
    torch.set_default_dtype(torch.float32)
    return TextRun(folder)


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Runs a command that must end with exit code 2 and one line on stderr, and returns the line."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in argv])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    return line


# What training leaves behind.


def test_training_leaves_a_whole_run_folder(folder: Path) -> None:
    for name in ("config.json", "environment.json", "tokenizer.json", "metrics.jsonl", "report.html", "DONE"):
        assert (folder / name).stat().st_size > 0
    for name in ("model.safetensors", "state.json", "optimizer.pt"):
        assert (folder / "checkpoints" / "best" / name).exists()
    assert {p.stem for p in (folder / "samples").glob("*.json")} == {
        "prior",
        "reconstructions",
        "interpolation",
        "edits",
        "map",
    }
    saved = json.loads((folder / "config.json").read_text())
    assert saved.keys() == {field.name for field in dataclasses.fields(train_text.Config)}


def test_the_result_names_likelihood_bound_and_use_of_the_latent(texts: Path, tmp_path: Path) -> None:
    result = train_text.main(config(texts, tmp_path / "run", steps=3))
    assert result["steps"] == 3
    assert len(result["kl_nats"]) == 2
    assert result["validation_nll_nats"] <= -result["elbo_nats"] + 5 * result["validation_nll_standard_error"]
    assert result["elbo_nats"] == pytest.approx(-result["reconstruction_nats"] - sum(result["kl_nats"]))
    assert {"active_units", "mutual_information_nats", "mutual_information_ceiling_nats", "shuffled_gap_nats"} <= (
        result.keys()
    )
    assert "latent" in result["verdict"] or "posterior" in result["verdict"]


def test_an_interrupted_run_resumes_to_the_same_weights_in_mid_epoch(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dropout": 0.1, "word_dropout": 0.2, "ema": 0.9, "steps": 10, "checkpoint_every": 3}
    train_text.train(config(texts, tmp_path / "whole", **options))
    plain = TextTask.loss

    def stop(self, batch, progress):
        if progress.step == 7:
            raise KeyboardInterrupt
        return plain(self, batch, progress)

    monkeypatch.setattr(TextTask, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        train_text.train(config(texts, tmp_path / "cut", **options))
    monkeypatch.setattr(TextTask, "loss", plain)
    train_text.train(config(texts, tmp_path / "cut", **options, resume=True))
    whole, cut = (
        {name: (tmp_path / run / "checkpoints" / "last" / name).read_bytes() for name in ("model.safetensors",)}
        for run in ("whole", "cut")
    )
    assert whole == cut
    rows = [Run.open(tmp_path / run).rows() for run in ("whole", "cut")]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k not in TIMING} == {k: v for k, v in b.items() if k not in TIMING}


def test_two_processes_train_what_one_trains_in_two_turns(
    texts: Path, tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    flags = ["--text", texts, "--tokenizer", "words", "--threads", 1, "--dropout", 0.1]
    flags += [part for name, value in (SHAPE | TRAINING).items() for part in (f"--{name.replace('_', '-')}", value)]
    for processes, own in ((1, ["--out", tmp_path / "one", "--accumulate", 2]), (2, ["--out", tmp_path / "two"])):
        result = started(processes, "experiments.train_text", *flags, *own, "--device", "cpu")
        assert result["steps"] == 12
    torch.set_default_dtype(torch.float32)
    one, two = (TextRun(tmp_path / name, checkpoint="last").model.state_dict() for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=2e-5, rtol=1e-3)


# What the commands return.


def test_sampling_is_reproducible_and_written_one_text_a_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.txt"
    one, again, other = (
        sample.main(sample.Config(run=folder, count=4, seed=s, out=out, overwrite=True)) for s in (0, 0, 1)
    )
    assert one["samples"] == again["samples"] != other["samples"]
    assert out.read_text().splitlines() == other["samples"]
    cold = [sample.main(sample.Config(run=folder, count=1, top_k=1, seed=0))["samples"] for _ in range(2)]
    assert cold[0] == cold[1]


def test_reconstructions_come_in_order_with_their_texts(folder: Path, texts: Path) -> None:
    greedy = reconstruct.main(reconstruct.Config(run=folder, data=str(texts), limit=5))
    assert [pair[0] for pair in greedy["texts"]] == texts.read_text().splitlines()[:5]
    beam = reconstruct.main(reconstruct.Config(run=folder, data=str(texts), limit=5, beam=3))
    assert beam["count"] == 5
    assert 0 <= beam["exact_share"] <= 1


def test_an_interpolation_starts_and_ends_at_the_reconstructions(folder: Path, opened: TextRun) -> None:
    a, b = "the small cat sees a dog", "no old fish"
    walk = interpolate.main(interpolate.Config(run=folder, start=a, end=b, steps=5))["texts"]
    assert len(walk) == 5
    from experiments.text_use import reconstruct as decode

    assert [walk[0], walk[-1]] == decode(opened, [a, b])


def test_an_edit_says_what_stayed(folder: Path) -> None:
    result = edit.main(edit.Config(run=folder, text="the small cat sees a dog", layers="0,1", count=3))
    assert len(result["texts"]) == len(result["kept"]) == len(result["kept_share"]) == 3
    for text, kept in zip(result["texts"], result["kept"], strict=True):
        assert set(kept) <= set(text.split()) & set(result["reconstruction"].split())


def test_codes_are_the_modes_of_the_posterior(folder: Path, texts: Path, tmp_path: Path, opened: TextRun) -> None:
    result = encode.main(encode.Config(run=folder, data=str(texts), out=tmp_path / "codes.npy", limit=7))
    codes = np.load(tmp_path / "codes.npy")
    assert list(codes.shape) == result["shape"] == [7, 2, 4]
    with torch.no_grad():
        expected = opened.model.posterior(opened.encode(texts.read_text().splitlines()[:7])).modes()
    np.testing.assert_allclose(codes, expected, atol=1e-5)


def test_likelihood_totals_are_those_of_its_rows(folder: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = likelihood.main(likelihood.Config(run=folder, data=str(texts), samples=20, limit=40, out=out))
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts.read_text().splitlines()[:40]
    total = sum(float(row["log_likelihood_nats"]) for row in rows)
    tokens, characters, words = (sum(int(row[n]) for row in rows) for n in ("tokens", "characters", "words"))
    assert tokens == words + 40  # words, and one end token a text
    assert result["tokens"] == tokens
    assert result["log_likelihood_nats"] == pytest.approx(total / 40)
    assert result["bits_per_token"] == pytest.approx(-total / math.log(2) / tokens)
    assert result["bits_per_char"] == pytest.approx(-total / math.log(2) / characters)
    assert result["perplexity_per_word"] == pytest.approx(math.exp(-total / tokens))
    variance = sum(float(row["standard_error_nats"]) ** 2 for row in rows)
    assert result["standard_error_nats"] == pytest.approx(math.sqrt(variance) / 40)
    assert result["log_likelihood_nats"] > result["elbo_nats"]
    assert 1 <= result["effective_samples_median"] <= 20
    assert 0 <= result["khat_above_0.7"] <= 1
    page = Path(result["report"]).read_text(encoding="utf-8")
    lowest = min(rows, key=lambda row: float(row["log_likelihood_nats"]))
    assert "The least likely texts, the lowest first" in page
    assert lowest["text"] in page
    assert [row["index"] for row in rows] == [str(i) for i in range(40)]


def test_a_score_does_not_depend_on_the_other_texts_of_its_batch(opened: TextRun) -> None:
    text, others = "the small cat sees a dog", lines(5, seed=3)
    alone = estimate(opened.model, opened.encode([text]), 3000)
    batch = estimate(opened.model, opened.encode([text, *others]), 3000)
    error = math.hypot(alone.standard_error[0], batch.standard_error[0])
    assert abs(alone.log_likelihood[0] - batch.log_likelihood[0]) < 5 * error


def test_a_shuffled_latent_costs_a_trained_model_more_than_five_nats(  # oracle U14
    texts: Path, tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    options = {"steps": 500, "width": 32, "latent": "vmf", "kappa": 64.0, "latent_width": 8, "lr": 4e-3}
    train_text.train(config(texts, tmp_path / "run", **options, word_dropout=0.5, batch_tokens=512))
    run = TextRun(tmp_path / "run")
    found = measure_texts(run.model, run.encode(lines(64)), samples=4)
    assert found["shuffled_gap_nats"] > 5
    assert found["mutual_information_nats"] > 1
    assert found["kl_nats"] == pytest.approx([8.24213] * 2, abs=1e-4)


def test_a_report_and_a_comparison_are_written(folder: Path, tmp_path: Path) -> None:
    page = Path(report.main(report.Config(runs=(folder,)))["path"])
    assert "Reconstructions of held-out texts" in page.read_text(encoding="utf-8")
    both = compare.main(compare.Config(runs=(folder, folder), out=tmp_path / "both.html"))
    assert "Runs side by side" in Path(both["path"]).read_text(encoding="utf-8")


def test_training_sees_a_separate_validation_file(texts: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("no fish\n" * 30, encoding="utf-8")
    settings = config(texts, tmp_path / "run", steps=2, validation=str(other), tokenizer="bpe")
    train_text.train(settings)
    assert set(train_text.held_out_texts(settings)) == {"no fish"}


@pytest.mark.parametrize("kind", ["bytes", "chars", "words", "bpe"])
def test_every_tokenizer_trains(texts: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "run"
    train_text.train(config(texts, out, steps=2, tokenizer=kind, batch_tokens=512, max_length=100))
    opened = TextRun(out)
    assert opened.decode(opened.encode(["the small cat"])) == ["the small cat"]


@pytest.mark.parametrize("options", [{}, {"latent": "vmf", "prior": "learned"}, {"norm": "post", "scale": "log_n"}])
def test_bfloat16_training_follows_float32(texts: Path, tmp_path: Path, options: dict) -> None:
    torch.set_default_dtype(torch.float32)
    losses = []
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        train_text.train(config(texts, out, steps=6, log_every=1, precision=precision, **options))
        losses.append([row["loss"] for row in Run.open(out).rows("train")])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_annealing_and_free_bits_reach_the_loss(texts: Path, tmp_path: Path, opened: TextRun) -> None:
    from experiments.task import Progress
    from experiments.text_task import Objective

    batch = opened.encode(lines(8))

    def loss(fraction: float, **options) -> float:
        torch.manual_seed(0)
        task = TextTask(opened.model, Objective(**options), 0, (None, None), batch)
        total, logged = task.loss(batch, Progress(0, fraction))
        return total.item() - logged["reconstruction_nats_per_token"].item()

    plain = loss(0.0)
    assert loss(0.0, annealing="linear") == pytest.approx(0, abs=1e-4)
    assert loss(0.15, annealing="linear", anneal_warmup=0.3) == pytest.approx(plain / 2, rel=1e-3)
    assert loss(0.05, annealing="cyclical", anneal_cycles=2, anneal_warmup=0.2) == pytest.approx(plain / 2, rel=1e-3)
    assert loss(0.0, free_bits=3.0) == pytest.approx(8 * 2 * 3, rel=1e-4)
    assert loss(0.0, free_bits=1.0, free_bits_per="dimension") == pytest.approx(8 * 8 * 1, rel=1e-4)
    assert int((batch != PAD).sum()) == task_weight(opened, batch)


def task_weight(run: TextRun, batch: torch.Tensor) -> int:
    from experiments.text_task import Objective

    return TextTask(run.model, Objective(), 0, (None, None), batch).weight(batch)


# Bad input: exit code 2, one clear line, nothing left behind.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"\n \n\n", "no line with a text"),
        (b"fine\n\xff\xfe broken\n", "not UTF-8"),
        (b"fine\nPK\x00\x01\x02\n", "a NUL byte"),
    ],
)
def test_a_file_that_is_no_text_is_refused(capsys, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content)
    line = refused(capsys, "train-text", "--text", path, "--out", tmp_path / "run", "--steps", 1)
    assert said in line
    assert str(path) in line
    assert not (tmp_path / "run").exists()


def test_texts_that_are_all_too_long_are_refused(capsys, texts: Path, tmp_path: Path) -> None:
    line = refused(capsys, "train-text", "--text", texts, "--out", tmp_path / "run", "--max-length", 2)
    assert "raise max_length" in line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_refused(capsys, tmp_path: Path, texts: Path) -> None:
    assert "does not exist" in refused(capsys, "sample", tmp_path / "nowhere")
    assert "is not a run folder" in refused(capsys, "likelihood", tmp_path, "--data", texts)
    (tmp_path / "config.json").write_text("{}")
    assert "not the run of a text model" in refused(capsys, "sample", tmp_path)


def test_a_damaged_checkpoint_is_refused(capsys, folder: Path, texts: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    weights = copy / "checkpoints" / "best" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors" in refused(capsys, "sample", copy)
    train_text.train(config(texts, tmp_path / "other", width=24, steps=1))
    capsys.readouterr()  # its progress
    foreign = tmp_path / "other" / "checkpoints" / "last" / "model.safetensors"
    weights.write_bytes(foreign.read_bytes())
    assert "model.safetensors" in refused(capsys, "sample", copy)
    (copy / "tokenizer.json").write_text('{"kind": "words"}')
    assert "not a tokenizer" in refused(capsys, "sample", copy)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_weights(torch.nn.Linear(2, 2), foreign)


def test_options_out_of_their_range_are_refused(capsys, folder: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train = ("train-text", "--text", texts, "--out", out)
    assert "did you mean --latent-layers" in refused(capsys, *train, "--latent-layer", 3)
    assert "latent_layers must lie in 1..layers" in refused(capsys, *train, "--latent-layers", 9)
    assert "batch_tokens must hold one text" in refused(capsys, *train, "--batch-tokens", 9)
    assert "tiny, small, base, paper" in refused(capsys, *train, "--preset", "huge")
    assert "temperature" in refused(capsys, "sample", folder, "--temperature", -1)
    assert "latent layers are 0..1; got [2]" in refused(capsys, "edit", folder, "a text", "--layers", "2")
    assert "a list like 0,1" in refused(capsys, "edit", folder, "a text", "--layers", "all")
    assert "steps must be at least 2" in refused(capsys, "interpolate", folder, "a", "b", "--steps", 1)
    assert "samples must be at least 1" in refused(capsys, "likelihood", folder, "--data", texts, "--samples", 0)
    assert "count must be at least 1" in refused(capsys, "sample", folder, "--count", 0)
    assert "did you mean --count or --out" in refused(capsys, "sample", folder, "--cuont", 3)
    assert not out.exists()


def test_a_second_run_or_another_configuration_in_its_folder_is_refused(capsys, folder: Path, texts: Path) -> None:
    again = ("train-text", "--text", texts, "--out", folder)
    assert "already holds a run" in refused(capsys, *again)
    line = refused(capsys, *again, "--resume", "--lr", 0.5)
    assert "lr: 0.001 -> 0.5" in line
