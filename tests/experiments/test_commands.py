"""The commands on a run of the real thing, small: what they return, and what they say to bad input."""

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from density.estimation.importance import estimate
from experiments import (
    compare,
    edit,
    encode,
    interpolate,
    likelihood,
    reconstruct,
    report,
    sample,
    train_text,
)
from experiments.cli import commands as cli
from experiments.cli.options import stored
from experiments.text.task import TextTask, measure_texts
from experiments.training.configuration import options_of
from experiments.training.run_folder import TIMING, Run
from tests.old_runs import without_checksums
from univae.checkpoint import load_weights
from univae.errors import InputError
from univae.text.corpus import Corpus, split
from univae.text.special import PAD
from univae.vae.trained import TrainedText

WORDS = (
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
)
SHAPE = {
    "width": 16,
    "heads": 2,
    "layers": 2,
    "latent_layers": 2,
    "latent_width": 4,
    "vocab_size": 300,
}
TRAINING = {
    "steps": 12,
    "batch_tokens": 128,
    "validation_texts": 20,
    "validation_samples": 4,
    "log_every": 4,
    "calibration": 0.0,
}


def lines(count: int, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(2, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "texts.txt"
    path.write_text("\n".join(lines(300)) + "\n", encoding="utf-8")
    return path


def config(texts: Path, out: Path, **options) -> train_text.Config:
    return train_text.Config.of(
        **{**SHAPE, **TRAINING, "text": str(texts), "out": out, "tokenizer": "words", **options}
    )


@pytest.fixture(scope="module")
def folder(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train_text.main(config(texts, out))
    return out


@pytest.fixture
def opened(folder: Path) -> TrainedText:
    torch.set_default_dtype(torch.float32)
    return TrainedText.open(folder)


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Run a command that must end with exit code 2 and one line on stderr, and returns the line."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in argv])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    return line


# What training leaves behind.


def test_training_leaves_a_whole_run_folder(folder: Path) -> None:
    for name in (
        "config.json",
        "environment.json",
        "tokenizer.json",
        "metrics.jsonl",
        "report.html",
        "DONE",
    ):
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
    assert saved.keys() == options_of(train_text.Config).keys()


def test_the_result_names_likelihood_bound_and_use_of_the_latent(
    texts: Path, tmp_path: Path
) -> None:
    result = train_text.main(config(texts, tmp_path / "run", steps=3))
    assert result["steps"] == 3
    assert len(result["kl_nats"]) == 2
    assert (
        result["validation_nll_nats"]
        <= -result["elbo_nats"] + 5 * result["validation_nll_standard_error"]
    )
    assert result["elbo_nats"] == pytest.approx(
        -result["reconstruction_nats"] - sum(result["kl_nats"])
    )
    assert {
        "active_units",
        "mutual_information_nats",
        "mutual_information_ceiling_nats",
        "shuffled_gap_nats",
    } <= (result.keys())
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
        {
            name: (tmp_path / run / "checkpoints" / "last" / name).read_bytes()
            for name in ("model.safetensors",)
        }
        for run in ("whole", "cut")
    )
    assert whole == cut
    rows = [Run.open(tmp_path / run).rows() for run in ("whole", "cut")]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k not in TIMING} == {
            k: v for k, v in b.items() if k not in TIMING
        }


@pytest.mark.slow
def test_two_processes_train_what_one_trains_in_two_turns(
    texts: Path, tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    flags = ["--text", texts, "--tokenizer", "words", "--threads", 1, "--dropout", 0.1]
    flags += [
        part
        for name, value in (SHAPE | TRAINING | {"steps": 16, "calibration": 0.25}).items()
        for part in (f"--{name.replace('_', '-')}", value)
    ]
    for processes, own in (
        (1, ["--out", tmp_path / "one", "--accumulate", 2]),
        (2, ["--out", tmp_path / "two"]),
    ):
        result = started(processes, "experiments.train_text", *flags, *own, "--device", "cpu")
        assert result["steps"] == 12
        assert result["calibration"]["steps"] == 4
    torch.set_default_dtype(torch.float32)
    for checkpoint in ("last", "best"):
        one, two = (
            TrainedText.open(tmp_path / name, checkpoint=checkpoint).model.state_dict()
            for name in ("one", "two")
        )
        for name, value in one.items():
            torch.testing.assert_close(value, two[name], atol=2e-5, rtol=1e-3)


# What the commands return.


def test_sampling_is_reproducible_and_written_one_text_a_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.txt"
    one, again, other = (
        sample.main(sample.Config(run=folder, count=4, seed=s, out=out, overwrite=True))
        for s in (0, 0, 1)
    )
    assert one["samples"] == again["samples"] != other["samples"]
    assert out.read_text().splitlines() == other["samples"]
    cold = [
        sample.main(sample.Config(run=folder, count=1, top_k=1, seed=0))["samples"]
        for _ in range(2)
    ]
    assert cold[0] == cold[1]


def test_reconstructions_come_in_order_with_their_texts(folder: Path, texts: Path) -> None:
    greedy = reconstruct.main(reconstruct.Config(run=folder, data=str(texts), limit=5))
    assert [pair[0] for pair in greedy["texts"]] == texts.read_text().splitlines()[:5]
    beam = reconstruct.main(reconstruct.Config(run=folder, data=str(texts), limit=5, beam=3))
    assert beam["count"] == 5
    assert 0 <= beam["exact_share"] <= 1


def test_an_interpolation_starts_and_ends_at_the_reconstructions(
    folder: Path, opened: TrainedText
) -> None:
    a = "the small cat sees a dog"
    b = "no old fish"
    walk = interpolate.main(interpolate.Config(run=folder, start=a, end=b, steps=5))["texts"]
    assert len(walk) == 5
    assert [walk[0], walk[-1]] == opened.reconstruct([a, b])


def test_an_edit_says_what_stayed(folder: Path) -> None:
    result = edit.main(
        edit.Config(run=folder, text="the small cat sees a dog", layers="0,1", count=3)
    )
    assert len(result["texts"]) == len(result["kept"]) == len(result["kept_share"]) == 3
    for text, kept in zip(result["texts"], result["kept"], strict=True):
        assert set(kept) <= set(text.split()) & set(result["reconstruction"].split())


def test_codes_are_the_modes_of_the_posterior(
    folder: Path, texts: Path, tmp_path: Path, opened: TrainedText
) -> None:
    result = encode.main(
        encode.Config(run=folder, data=str(texts), out=tmp_path / "codes.npy", limit=7)
    )
    codes = np.load(tmp_path / "codes.npy")
    assert list(codes.shape) == result["shape"] == [7, 2, 4]
    with torch.no_grad():
        expected = opened.model.posterior(
            opened.token_ids(texts.read_text().splitlines()[:7])
        ).modes()
    np.testing.assert_allclose(codes, expected, atol=1e-5)


def test_likelihood_totals_are_those_of_its_rows(folder: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = likelihood.main(
        likelihood.Config(
            run=folder, data=str(texts), samples=20, proposal="posterior", limit=40, out=out
        )
    )
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts.read_text().splitlines()[:40]
    total = sum(float(row["log_likelihood_nats"]) for row in rows)
    tokens, characters, words = (
        sum(int(row[n]) for row in rows) for n in ("tokens", "characters", "words")
    )
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
    assert result["khat_above_0.7"] is result["khat_unreliable"] is result["khat_threshold"] is None
    assert result["khat_note"] == "k-hat is undefined below 21 samples"
    assert {row["khat"] for row in rows} == {""}
    worst = json.loads((folder / "samples" / "worst.json").read_text())
    assert {cells[-1] for cells in worst["rows"]} == {"undefined"}
    page = Path(result["report"]).read_text(encoding="utf-8")
    lowest = min(rows, key=lambda row: float(row["log_likelihood_nats"]))
    assert "The least likely texts, the lowest first" in page
    assert lowest["text"] in page
    assert [row["index"] for row in rows] == [str(i) for i in range(40)]


def test_a_score_does_not_depend_on_the_other_texts_of_its_batch(opened: TrainedText) -> None:
    text = "the small cat sees a dog"
    others = lines(5, seed=3)
    alone = estimate(opened.model, opened.token_ids([text]), 3000)
    batch = estimate(opened.model, opened.token_ids([text, *others]), 3000)
    error = math.hypot(alone.standard_error[0], batch.standard_error[0])
    assert abs(alone.log_likelihood[0] - batch.log_likelihood[0]) < 5 * error


@pytest.mark.slow
def test_a_shuffled_latent_costs_a_trained_model_more_than_five_nats(  # oracle U14
    texts: Path, tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    options = {
        "steps": 500,
        "width": 32,
        "latent": "vmf",
        "kappa": 64.0,
        "latent_width": 8,
        "lr": 4e-3,
    }
    train_text.train(config(texts, tmp_path / "run", **options, word_dropout=0.5, batch_tokens=512))
    run = TrainedText.open(tmp_path / "run")
    found = measure_texts(run.model, run.token_ids(lines(64)), samples=4)
    assert found["shuffled_gap_nats"] > 5
    assert found["mutual_information_nats"] > 1
    assert found["kl_nats"] == pytest.approx([8.24213] * 2, abs=1e-4)


def test_a_report_and_a_comparison_are_written(folder: Path, tmp_path: Path) -> None:
    page = Path(report.main(report.Config(runs=(folder,)))["path"])
    assert "Reconstructions of held-out texts" in page.read_text(encoding="utf-8")
    both = compare.main(compare.Config(runs=(folder,), out=tmp_path / "both.html"))
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
    opened = TrainedText.open(out)
    assert opened.texts_of(opened.token_ids(["the small cat"])) == ["the small cat"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"latent": "vmf", "prior": "learned"}, marks=pytest.mark.slow),
        pytest.param({"norm": "post", "scale": "log_n"}, marks=pytest.mark.slow),
    ],
)
def test_bfloat16_training_follows_float32(texts: Path, tmp_path: Path, options: dict) -> None:
    torch.set_default_dtype(torch.float32)
    losses = []
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        train_text.train(config(texts, out, steps=6, log_every=1, precision=precision, **options))
        losses.append([row["loss"] for row in Run.open(out).rows("train")])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_annealing_and_free_bits_reach_the_loss(
    texts: Path, tmp_path: Path, opened: TrainedText
) -> None:
    from experiments.text.task import TextObjective
    from experiments.training.task import Progress

    batch = opened.token_ids(lines(8))
    max_length = opened.model.config.max_length
    corpus = Corpus.build(lines(8), opened.tokenizer, tmp_path / "corpus", max_length=max_length)
    training_set = (corpus, np.arange(len(corpus)))

    def task(**options) -> TextTask:
        return TextTask(opened.model, TextObjective(**options), 0, training_set, batch)

    def loss(fraction: float, **options) -> float:
        torch.manual_seed(0)
        total, logged = task(**options).loss(batch, Progress(0, fraction))
        return total.item() - logged["reconstruction_nats_per_token"].item()

    plain = loss(0.0)
    assert loss(0.0, annealing="linear") == pytest.approx(0, abs=1e-4)
    assert loss(0.15, annealing="linear", anneal_warmup=0.3) == pytest.approx(plain / 2, rel=1e-3)
    assert loss(0.05, annealing="cyclical", anneal_cycles=2, anneal_warmup=0.2) == pytest.approx(
        plain / 2, rel=1e-3
    )
    assert loss(0.0, free_bits=3.0) == pytest.approx(8 * 2 * 3, rel=1e-4)
    half = {"annealing": "linear", "anneal_warmup": 0.5, "kl_weight": 0.2}
    assert loss(0.9, kl_weight=0.2) == pytest.approx(0.2 * plain, rel=1e-3)
    assert loss(0.25, **half) == pytest.approx(0.1 * plain, rel=1e-3)
    assert loss(0.25, **half, free_bits=3.0) == pytest.approx(0.1 * 8 * 2 * 3, rel=1e-4)
    assert task().validate_rows(Progress(0, 0.0), 5)["data"] == 5
    assert (task().validation_rows, task().fewest_rows) == (8, 4)
    for name in ("nll_nats", "elbo_nats"):
        values = []
        for weight in (1.0, 0.2):
            torch.manual_seed(0)
            values.append(task(kl_weight=weight).validate(Progress(0, 0.5))[name])
        assert values[0] == values[1]
    assert loss(0.0, free_bits=1.0, free_bits_per="dimension") == pytest.approx(8 * 8 * 1, rel=1e-4)
    assert int((batch != PAD).sum()) == task().weight(batch)


# What is left out, cut or unknown is said in numbers.


def test_texts_left_out_for_their_length_are_counted_everywhere(
    texts: Path, tmp_path: Path, capsys
) -> None:
    source = tmp_path / "mixed.txt"
    other = tmp_path / "other.txt"
    long = " ".join(["cat"] * 70)
    source.write_text("\n".join(["a cat", "", "a dog"] * 30 + [long] * 540) + "\n")
    other.write_text("a cat\r\n" * 30 + long + "\n")
    settings = config(source, tmp_path / "run", steps=1, validation=str(other))
    result = train_text.main(settings)
    notes = [
        "--text: left out 30 blank lines",
        "--text: 540 of 600 texts (90%) have more than max_length=64 tokens and were left out; raise --max-length",
        "--validation: left out the carriage return at the end of 30 lines",
        "--validation: 1 of 31 texts (3.2%) has more than max_length=64 tokens and was left out; raise --max-length",
    ]
    assert (result["texts_left_out"], result["validation_texts_left_out"], result["notes"]) == (
        540,
        1,
        notes,
    )
    assert [line for line in capsys.readouterr().err.splitlines() if "note: " in line] == [
        f"note: {n}" for n in notes
    ]
    done, data = (
        json.loads((tmp_path / "run" / name).read_text()) for name in ("DONE", "data.json")
    )
    assert done["notes"] == [*data["text"]["notes"], *data["validation"]["notes"]] == notes
    assert (data["text"]["count"], data["text"]["source"]) == (600, str(source))
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(note in page for note in notes)
    resumed = train_text.main(settings.change(resume=True))
    assert resumed["notes"] == notes


@pytest.mark.parametrize("separate", [pytest.param(False, marks=pytest.mark.slow), True])
def test_training_reports_the_share_of_unknown_words(
    texts: Path, tmp_path: Path, separate: bool
) -> None:
    source = tmp_path / "words.txt"
    other = tmp_path / "other.txt"
    rows = [f"the cat likes rare{i}" if i % 3 else "the cat" for i in range(200)]
    rows[7] = "<unk> " * 100  # left out for its length
    source.write_text("\n".join(rows) + "\n")
    other.write_text("the cat <unk> new\n" * 5)
    validation = str(other) if separate else ""
    settings = config(
        source, tmp_path / "run", steps=1, vocab_size=7, held_out=0.2, validation=validation
    )
    result = train_text.train(settings)
    kept = [row for row in rows if len(row.split()) < 64]
    if separate:
        train = kept
        held_out = ["the cat <unk> new"] * 5
    else:
        train_rows, held_out_rows = split(len(kept), 0.2, 0)
        train = [kept[i] for i in train_rows]
        held_out = [kept[i] for i in held_out_rows]
    vocabulary = json.loads((tmp_path / "run" / "tokenizer.json").read_text())["words"]
    for name, side in (("training", train), ("held_out", held_out)):
        words = " ".join(side).split()
        unknown = sum(word not in vocabulary for word in words)
        assert result[f"unknown_words_{name}"] == pytest.approx(unknown / len(words))
        (note,) = [
            note for note in result["notes"] if note.startswith(f"{name.replace('_', '-')} texts")
        ]
        assert f"{unknown} of {len(words)} words" in note
        assert "likelihoods are of words and <unk>" in note
    plain = train_text.train(
        config(source, tmp_path / "bytes", steps=1, tokenizer="bytes", max_length=100)
    )
    assert not [name for name in plain if name.startswith("unknown")]


@pytest.mark.slow
def test_a_code_for_unk_is_no_code_for_characters(folder: Path, tmp_path: Path, capsys) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("the zebra sees  a cat\n\nno emu\n" + "cat " * 70 + "\n")
    result = likelihood.main(
        likelihood.Config(run=folder, data=str(source), samples=2, proposal="posterior")
    )
    assert result["bits_per_char"] is None
    assert (result["unknown_words"], result["words"]) == (2, 77)
    assert result["perplexity_per_word"] > 1
    blank, longer, unknown, spaces = result["notes"]
    assert blank == f"{source}: left out 1 blank line"
    assert "1 of 3 texts (33%) has more than max_length=64 tokens" in longer
    assert "2 of 77 words (2.6%) are unknown" in unknown
    assert "perplexity_per_word is of words and <unk>, and bits_per_char is null" in unknown
    assert "in 2 of 3 texts white space is more than single spaces" in spaces
    assert [
        f"note: {note}" for note in result["notes"]
    ] == capsys.readouterr().err.strip().splitlines()[-4:]
    assert "bits_per_char is null" in Path(result["report"]).read_text()
    source.write_text("the old cat sees a cat\n")
    plain = likelihood.main(
        likelihood.Config(run=folder, data=str(source), samples=2, proposal="posterior")
    )
    assert plain["bits_per_char"] > 0
    assert "notes" not in plain


def test_texts_beyond_the_length_of_training_and_unknown_words_are_noted(
    folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "texts.txt"
    long = "cat " * 70 + "emu"
    source.write_text(f"the cat\n\n{long}\n")
    read = {"run": folder, "data": str(source)}
    results = [
        encode.main(encode.Config(**read, out=tmp_path / "codes.npy")),
        reconstruct.main(reconstruct.Config(**read)),
        interpolate.main(interpolate.Config(run=folder, start="the cat", end=long)),
        edit.main(edit.Config(run=folder, text=long, layers="0")),
    ]
    for result in results:
        longer, unknown = result["notes"][-2:]
        assert "has more than max_length=64 tokens, more than the model was trained on" in longer
        assert "1 of 7" in unknown
        assert "is unknown to the vocabulary and read as <unk>" in unknown
    assert [result["notes"][0] == f"{source}: left out 1 blank line" for result in results] == [
        True,
        True,
        False,
        False,
    ]
    assert "nothing was cut" in results[1]["notes"][1]
    assert "decoded texts end at 64 tokens" in results[2]["notes"][0]


# A run folder stands for itself.


def stopped(
    texts: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options
) -> train_text.Config:
    """Train two steps of six, with a checkpoint at each, and return the configuration to resume with."""
    plain = TextTask.loss

    def stop(self, batch, progress):
        if progress.step == 2:
            raise KeyboardInterrupt
        return plain(self, batch, progress)

    settings = config(texts, out, steps=6, checkpoint_every=1, **options)
    monkeypatch.setattr(TextTask, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        train_text.train(settings)
    monkeypatch.setattr(TextTask, "loss", plain)
    return settings.change(resume=True)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_sources_mean_the_same_files_from_every_folder(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("one", lines(60)), ("two", lines(60, seed=1))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "texts.txt").write_text("\n".join(content) + "\n")
    monkeypatch.chdir(tmp_path / "one")
    settings = stopped(Path("texts.txt"), tmp_path / "run", monkeypatch, validation="texts.txt")
    saved = Run.open(tmp_path / "run").config
    assert saved["text"] == saved["validation"] == str(tmp_path / "one" / "texts.txt")
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(InputError, match="was started with other data"):
        train_text.train(settings)  # here the same name is another file
    found = stored(train_text.Config, Run.open(tmp_path / "run"), resume=True)
    assert train_text.train(found)["steps"] == 6
    (tmp_path / "moved.txt").write_bytes((tmp_path / "one" / "texts.txt").read_bytes())
    moved = found.change(text=str(tmp_path / "moved.txt"))
    assert train_text.train(moved)["steps"] == 6


def test_a_resumed_run_of_other_texts_is_refused_and_left_as_it_was(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "texts.txt"
    other = tmp_path / "other.txt"
    source.write_bytes(texts.read_bytes())
    other.write_text("\n".join(lines(20, seed=5)) + "\n")
    settings = stopped(source, tmp_path / "run", monkeypatch, validation=str(other))
    before = everything(tmp_path / "run")
    rows = texts.read_text().splitlines()
    for path, content in (
        (source, rows[:-1]),
        (source, [*rows[1:], rows[0]]),
        (source, [*rows[:-1], "another text"]),
        (other, lines(21, seed=5)),
    ):
        whole = path.read_bytes()
        path.write_text("\n".join(content) + "\n")
        with pytest.raises(
            InputError,
            match=rf"was started with other data.*{path.name}: \d+ then, {len(content)} now",
        ):
            train_text.train(settings)
        path.write_bytes(whole)
        assert everything(tmp_path / "run") == before
    with pytest.raises(InputError, match="was started with other data"):
        train_text.train(settings.change(validation=""))
    tokenizer = json.loads((tmp_path / "run" / "tokenizer.json").read_text())
    tokenizer["words"][:2] = tokenizer["words"][1::-1]
    (tmp_path / "run" / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(
        InputError, match=r"tokenizer\.json is not the tokenizer that the run was trained with"
    ):
        train_text.train(settings)
    assert {k: v for k, v in everything(tmp_path / "run").items() if k != "tokenizer.json"} == {
        k: v for k, v in before.items() if k != "tokenizer.json"
    }


def test_a_run_without_a_record_of_its_data_is_resumed_by_its_corpora(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "texts.txt"
    source.write_bytes(texts.read_bytes())
    settings = stopped(source, tmp_path / "run", monkeypatch)
    (tmp_path / "run" / "data.json").unlink()
    without_checksums(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    saved = json.loads((tmp_path / "run" / "config.json").read_text()) | {"text": "texts.txt"}
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    settings = settings.change(text="texts.txt")
    before = everything(tmp_path / "run")
    source.write_text("another text\n" * 300)
    with pytest.raises(InputError, match="was built with other texts"):
        train_text.train(settings)
    assert everything(tmp_path / "run") == before
    source.write_bytes(texts.read_bytes())
    assert train_text.train(settings)["steps"] == 6


def test_an_exchanged_tokenizer_is_refused_where_the_run_has_its_fingerprint(
    capsys, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    without_checksums(copy)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    # the same in another layout
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer, indent=7))
    assert TrainedText.open(copy)
    tokenizer["words"].reverse()
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "is not the tokenizer that the run was trained with" in refused(capsys, "sample", copy)
    data = json.loads((copy / "data.json").read_text())
    del data["tokenizer"]
    (copy / "data.json").write_text(json.dumps(data))
    assert TrainedText.open(copy)


# Bad input: exit code 2, one clear line, nothing left behind.


def test_too_few_texts_are_refused_before_training(capsys, tmp_path: Path) -> None:
    source = tmp_path / "few.txt"
    other = tmp_path / "other.txt"
    out = tmp_path / "run"
    source.write_text("\n".join(lines(12)) + "\n")
    other.write_text("a cat\n")
    train = (
        "train-text",
        "--text",
        source,
        "--out",
        out,
        "--tokenizer",
        "bytes",
        "--steps",
        1,
        "--max-length",
        99,
    )
    line = refused(capsys, *train)
    assert (
        "2 held-out texts are needed; 12 texts with --held-out 0.05 give 1; raise it, or give --validation"
        in line
    )
    assert f"2 held-out texts are needed; --validation {other} gives 1" in refused(
        capsys, *train, "--validation", other
    )
    for count in (0, 1, -3):
        assert "validation_texts must be at least 2" in refused(
            capsys, *train, "--validation-texts", count
        )
    source.write_text("a cat\n")
    assert "1 text with --held-out 0.05 gives 0" in refused(capsys, *train)
    assert not out.exists()


def test_a_pipe_is_not_read_twice(capsys, folder: Path, texts: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for options in (("--text", pipe), ("--text", texts, "--validation", pipe)):
        line = refused(capsys, "train-text", *options, "--out", tmp_path / "run")
        assert f"{pipe} is not a file that can be read twice" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "[1]", "tokenizer.json: .*not a tokenizer"),
        ("tokenizer.json", "[" * 100_000, "tokenizer.json: not a readable JSON file"),
        (
            "tokenizer.json",
            '{"kind": "words", "words": [1, "<unk>"]}',
            "tokenizer.json: .*not a tokenizer",
        ),
        ("config.json", "[" * 100_000, "config.json: not a readable JSON file"),
        ("config.json", '{"command": "train-text", "width": 16}', "config.json: lacks"),
        ("config.json", None, "config.json: layers must be a whole number; got layers='2'"),
        ("data.json", "[1]", "data.json: not a JSON object"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_damaged_json_of_a_run_is_refused(
    capsys, folder: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    if content is None:
        content = json.dumps(json.loads((copy / name).read_text()) | {"layers": "2"})
    (copy / name).write_text(content)
    assert re.search(message, refused(capsys, "sample", copy))


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
def test_a_file_that_is_no_text_is_refused(
    capsys, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content)
    line = refused(capsys, "train-text", "--text", path, "--out", tmp_path / "run", "--steps", 1)
    assert said in line
    assert str(path) in line
    assert not (tmp_path / "run").exists()


def test_texts_that_are_all_too_long_are_refused(capsys, texts: Path, tmp_path: Path) -> None:
    line = refused(
        capsys, "train-text", "--text", texts, "--out", tmp_path / "run", "--max-length", 2
    )
    assert "raise max_length" in line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_refused(capsys, tmp_path: Path, texts: Path) -> None:
    assert "does not exist" in refused(capsys, "sample", tmp_path / "nowhere")
    assert "is not a run folder" in refused(capsys, "likelihood", tmp_path, "--data", texts)
    (tmp_path / "config.json").write_text("{}")
    assert "not the run of a text model" in refused(capsys, "sample", tmp_path)


def test_a_damaged_checkpoint_is_refused(capsys, folder: Path, texts: Path, tmp_path: Path) -> None:
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


def test_options_out_of_their_range_are_refused(
    capsys, folder: Path, texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train = ("train-text", "--text", texts, "--out", out)
    assert "did you mean --latent-layers" in refused(capsys, *train, "--latent-layer", 3)
    assert "latent_layers must lie in 1..layers" in refused(capsys, *train, "--latent-layers", 9)
    assert "batch_tokens must hold one text" in refused(capsys, *train, "--batch-tokens", 9)
    assert "tiny, small, base, paper" in refused(capsys, *train, "--preset", "huge")
    assert "temperature" in refused(capsys, "sample", folder, "--temperature", -1)
    assert "latent layers are 0..1; got [2]" in refused(
        capsys, "edit", folder, "a text", "--layers", "2"
    )
    assert "a list like 0,1" in refused(capsys, "edit", folder, "a text", "--layers", "all")
    assert "steps must be at least 2" in refused(
        capsys, "interpolate", folder, "a", "b", "--steps", 1
    )
    assert "samples must be at least 1" in refused(
        capsys, "likelihood", folder, "--data", texts, "--samples", 0
    )
    assert "count must be at least 1" in refused(capsys, "sample", folder, "--count", 0)
    assert "did you mean --count or --out" in refused(capsys, "sample", folder, "--cuont", 3)
    assert not out.exists()


def test_a_second_run_or_another_configuration_in_its_folder_is_refused(
    capsys, folder: Path, texts: Path
) -> None:
    again = ("train-text", "--text", texts, "--out", folder)
    assert "already holds a run" in refused(capsys, *again)
    line = refused(capsys, *again, "--resume", "--lr", 0.5)
    assert "lr: 0.001 -> 0.5" in line
