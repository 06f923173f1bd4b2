"""Training, generating, searching and encoding with small sentence models, through the commands."""

import dataclasses
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from experiments import encode, search, similar, train_similar
from experiments.cli import commands as cli
from experiments.cli.options import stored
from experiments.data.pairs import group_up, read_groups
from experiments.reports.validations import best_validation
from experiments.sentences import vector_file
from experiments.sentences.batch import Batch, Examples, SentenceObjective
from experiments.sentences.evaluation import correlation, rank_of_pair, selection
from experiments.sentences.label_task import LabelTask
from experiments.sentences.pair_task import ChunkedPairTask, PairTask
from experiments.sentences.teacher import fingerprint_file, write_table
from experiments.training.configuration import options_of
from experiments.training.run_folder import TIMING, Run
from experiments.training.task import Progress, reseed
from tests.old_runs import without_checksums
from univae.contrastive.losses import paired_info_nce
from univae.errors import InputError
from univae.sentence.model import RoFormerSim, RoFormerSimConfig
from univae.sentence.tokenizer import SimilarText
from univae.sentence.trained import TrainedSimilar, similar_config
from univae.text.corpus import Corpus
from univae.text.noise import Noise, WordNoise
from univae.text.special import END, PAD
from univae.text.tokenizers import train_tokenizer

WHO = ("a man", "the boy", "two dogs", "a girl")
DOES = ("sees", "holds", "likes")
WHAT = ("a ball", "the cat", "red cars")
OTHERWISE = {"sees": "is looking at", "holds": "has", "likes": "is fond of"}
SHAPE = {
    "width": 16,
    "heads": 2,
    "layers": 1,
    "max_length": 16,
    "tokenizer": "words",
    "vocab_size": 60,
}
TRAINING = {
    "steps": 6,
    "batch_size": 6,
    "validate_every": 3,
    "log_every": 2,
    "held_out": 0.15,
    "threads": 1,
}
NOW = Progress(0, 0.0)


def sentences() -> list[list[str]]:
    return [
        [f"{a} {b} {c}", f"{a} {OTHERWISE[b]} {c}", f"{c} that {a} {b}"]
        for a in WHO
        for b in DOES
        for c in WHAT
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    groups = sentences()
    pairs = folder / "groups.tsv"
    labelled = folder / "labelled.jsonl"
    corpus = folder / "corpus.txt"
    pairs.write_text("".join("\t".join(group) + "\n" for group in groups))
    draw = np.random.default_rng(0)
    rows = [
        [f"{g[0]} {i}", f"{groups[j][1]} {i}", float(i == j)]
        for i, g in enumerate(groups)
        for j in (i, draw.integers(36))
    ]
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus.write_text("".join(f"{group[0]}\n" for group in groups))
    return {"pairs": pairs, "labelled": labelled, "corpus": corpus, "folder": folder}


def config(files: dict[str, Path], out: Path, **options) -> train_similar.Config:
    return train_similar.Config.of(
        **{**SHAPE, **TRAINING, "pairs": (files["pairs"],), "out": out, **options}
    )


@pytest.fixture(scope="module")
def folder(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train_similar.main(config(files, out))
    return out


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in argv])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    return line


# The task.


def task(tmp_path: Path, kind: type[PairTask] = PairTask, teacher: int = 0, **options) -> PairTask:
    torch.set_default_dtype(torch.float64)
    groups = group_up(sentences())
    tokenizer = train_tokenizer("words", groups.texts, 60)
    text = SimilarText(tokenizer, 16)
    corpus = Corpus.build(groups.texts, text, tmp_path / "corpus", max_length=16)
    shape = RoFormerSimConfig(
        text.vocab_size,
        width=16,
        heads=2,
        layers=2,
        max_length=16,
        dropout=options.pop("dropout", 0.0),
    )
    vectors = (
        torch.nn.functional.normalize(torch.randn(len(groups.texts), teacher), dim=-1).numpy()
        if teacher
        else None
    )
    model = RoFormerSim(shape)
    examples = Examples(groups, corpus, np.arange(30), np.arange(30, 36), vectors)
    return kind(
        model,
        SentenceObjective(**options),
        0,
        examples,
        WordNoise(tokenizer, model.mask, Noise(rows=options.get("noise_rows", 0.5))),
    )


def test_partners_stay_partners_each_the_others_clean_target(tmp_path: Path) -> None:
    found = task(tmp_path, batch_size=8, noise_rows=1.0)
    seen = 0
    for item in found.batches(0):
        batch = found.load(item)
        clean = found.rows(item)
        assert torch.equal(batch.target, clean[torch.arange(len(clean)) ^ 1])
        assert torch.equal(batch.families[::2], batch.families[1::2])
        assert torch.equal(batch.source == PAD, clean == PAD)
        seen += int((batch.source != clean).sum())
    assert seen > 0  # sources are noised


def test_rows_of_one_family_are_no_negatives(tmp_path: Path) -> None:
    found = task(tmp_path, batch_size=4, generation=0.0, noise_rows=0.0)
    batch = found.load(np.array([[0, 1], [3, 4], [6, 7]]))
    loss, _ = found.loss(batch, NOW)
    plain = paired_info_nce(found.module.encode(batch.source))
    torch.testing.assert_close(loss / 6, plain)
    merged, _ = found.loss(batch._replace(families=torch.tensor([0, 0, 0, 0, 1, 1])), NOW)
    u = found.module.encode(batch.source)
    scores = (20 * u @ u.T).masked_fill(torch.eye(6, dtype=torch.bool), -torch.inf)
    for i, j in ((0, 2), (0, 3), (1, 2), (1, 3)):
        scores[i, j] = scores[j, i] = -torch.inf
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(6) ^ 1)
    torch.testing.assert_close(merged / 6, expected)


def test_the_losses_add_up_and_a_share_of_pairs_is_written(tmp_path: Path) -> None:
    found = task(tmp_path, batch_size=8, generation=0.5, generation_share=0.25, noise_rows=0.0)
    batch = found.load(found.batches(0)[0])
    rows = len(batch.source)
    assert len(batch.target) == 2 * -(-rows // 2 // 4)
    loss, logged = found.loss(batch, NOW)
    torch.testing.assert_close(
        loss, logged["contrastive"] + 0.5 * logged["generation_nats_per_token"]
    )
    whole = found.module.read_and_write(batch.source[: len(batch.target)], batch.target)[1]
    expected = -whole.sum() / (batch.target != PAD).sum() * rows
    torch.testing.assert_close(logged["generation_nats_per_token"], expected)


def test_the_teacher_as_its_own_student_has_nothing_to_teach(tmp_path: Path) -> None:
    found = task(tmp_path, teacher=16, stage="distil", generation=0.0, noise_rows=0.0)
    texts = found.examples.corpus.gather(np.arange(len(found.examples.corpus)))
    own = found.module.encode(texts).detach().numpy()
    found.examples = dataclasses.replace(found.examples, teacher=own)
    for item in found.batches(0):
        # of vectors kept in single precision
        assert found.loss(found.load(item), NOW)[0].item() < 1e-10


def test_single_texts_are_read_and_not_written(tmp_path: Path) -> None:
    found = task(tmp_path, teacher=5, stage="distil", noise_rows=0.0)
    # one text twice, partners, and texts of two families
    pairs = np.array([[0, 0], [3, 4], [1, 6]])
    batch = found.load(pairs)
    assert torch.equal(batch.source, found.rows(pairs[[1, 0, 2]]))  # partners first
    assert (batch.target[:2] == END).any(1).all()
    assert (batch.target[2:] == PAD).all()
    other = found.load(pairs[1:2])
    writing = [
        found.loss(b, NOW)[1]["generation_nats_per_token"] / len(b.source) for b in (batch, other)
    ]
    torch.testing.assert_close(writing[0], writing[1])
    found = task(
        tmp_path / "share", teacher=5, stage="distil", noise_rows=0.0, generation_share=0.3
    )
    # a third of the pairs: the partners
    assert torch.equal(found.load(pairs).target, batch.target[:2])


def test_chunks_have_equal_tokens_and_are_padded_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = task(tmp_path, ChunkedPairTask, chunk_size=4, batch_size=16, noise_rows=0.0)
    batch = found.load(found.batches(0)[0])
    short = torch.arange(len(batch.source)) % 5 > 0  # most texts have one token and an end
    for ids in (batch.source, batch.target):
        ids[short, 1:] = PAD
        ids[short, 1] = END
    tokens = sum(int((ids != PAD).sum()) for ids in (batch.source, batch.target))
    chunks = []

    def encode(source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chunks.append((len(source), source.shape[1] + target.shape[1]))
        return PairTask.encode(found, source, target)

    monkeypatch.setattr(found, "encode", encode)
    found.backward(batch, NOW, 1.0)
    in_each = [rows * width for rows, width in chunks]
    assert max(in_each) <= math.ceil(4 * tokens / len(batch.source))
    assert sum(rows for rows, _ in chunks[: len(chunks) // 2 + 1]) == len(batch.source)


@pytest.mark.parametrize("stage", ["pretrain", "distil"])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_chunks_give_the_gradients_of_the_whole_batch(
    tmp_path: Path, stage: str, share: float
) -> None:
    options = {
        "batch_size": 7,
        "stage": stage,
        "teacher": 5 * (stage == "distil"),
        "generation_share": share,
    }
    gradients = []
    values = []
    for kind, size in ((PairTask, 0), (ChunkedPairTask, 3), (ChunkedPairTask, 4)):
        reseed(0)
        found = task(tmp_path, kind, chunk_size=size, **options)
        reseed(1)
        batch = found.load(found.batches(0)[0])
        if size:
            loss, logged = found.backward(batch, NOW, 0.3)
        else:
            loss, logged = found.loss(batch, NOW)
            (0.3 * loss).backward()
        gradients.append(
            {name: p.grad for name, p in found.module.named_parameters() if p.grad is not None}
        )
        values.append(
            {"loss": loss.detach(), **{name: part.detach() for name, part in logged.items()}}
        )
    for other, numbers in zip(gradients[1:], values[1:], strict=True):
        assert numbers.keys() == values[0].keys()
        assert other.keys() == gradients[0].keys()
        for name, value in values[0].items():
            torch.testing.assert_close(numbers[name], value)
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-9, rtol=1e-7)


def test_a_validation_looks_at_one_pair_of_a_family(tmp_path: Path) -> None:
    found = task(tmp_path, generation=0.0)
    families = found.examples.groups.families.copy()
    families[-9:] = families[-1]  # the last three groups are connected
    found.examples = dataclasses.replace(
        found.examples, groups=dataclasses.replace(found.examples.groups, families=families)
    )
    with torch.no_grad():
        assert found.validate(NOW)["pairs"] == 4  # of six groups held out


# Training.


def test_training_leaves_a_whole_run_folder(folder: Path) -> None:
    for name in ("config.json", "tokenizer.json", "metrics.jsonl", "report.html", "DONE"):
        assert (folder / name).stat().st_size > 0
    saved = json.loads((folder / "config.json").read_text())
    assert saved.keys() == options_of(train_similar.Config).keys()
    rows = Run.open(folder).rows("validation")
    assert [row["step"] for row in rows] == [3, 6]
    assert all(0 <= row["recall_at_1"] <= row["recall_at_10"] <= 1 for row in rows)
    assert rows[-1]["selection"] == rows[-1]["held_out_loss"]
    trained = Run.open(folder).rows("train")
    for row in trained:
        assert row["loss"] == pytest.approx(
            row["contrastive"] + row["generation_nats_per_token"], rel=1e-5
        )
    page = (folder / "report.html").read_text()
    for words in (
        "Similarity",
        "recall at 1 of held-out pairs",
        "Similar texts, generated and ranked",
    ):
        assert words in page


def test_an_interrupted_run_resumes_to_the_same_weights(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"dropout": 0.1, "ema": 0.9, "checkpoint_every": 2, "steps": 7}
    train_similar.train(config(files, tmp_path / "whole", **options))
    plain = PairTask.loss

    def stop(self, batch, progress):
        if progress.step == 5:
            raise KeyboardInterrupt
        return plain(self, batch, progress)

    monkeypatch.setattr(PairTask, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        train_similar.train(config(files, tmp_path / "cut", **options))
    monkeypatch.setattr(PairTask, "loss", plain)
    train_similar.train(config(files, tmp_path / "cut", **options, resume=True))
    weights = [
        (tmp_path / run / "checkpoints/last/model.safetensors").read_bytes()
        for run in ("whole", "cut")
    ]
    assert weights[0] == weights[1]
    rows = [Run.open(tmp_path / run).rows() for run in ("whole", "cut")]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k not in TIMING} == {
            k: v for k, v in b.items() if k not in TIMING
        }


@pytest.mark.parametrize("supervised", [pytest.param("cosent", marks=pytest.mark.slow), "classify"])
def test_stages_follow_one_another_and_generation_survives(
    files: dict[str, Path], folder: Path, tmp_path: Path, supervised: str
) -> None:
    tuned = {
        "pairs": (files["labelled"],),
        "stage": "finetune",
        "from_run": folder,
        "supervised": supervised,
    }
    plain = {name: options_of(train_similar.Config)[name].default for name in SHAPE}
    result = train_similar.main(config(files, tmp_path / "tuned", **plain | tuned))
    assert -1 <= result["spearman"] <= 1
    opened = TrainedSimilar.open(tmp_path / "tuned", checkpoint="last")
    before = TrainedSimilar.open(folder)
    assert opened.model.config == before.model.config  # the shape of the run it started from
    moved = {
        name: not torch.equal(p, dict(before.model.named_parameters())[name])
        for name, p in opened.model.named_parameters()
    }
    assert moved["pooler.weight"]
    assert not moved["head.bias"]
    assert moved["classifier.weight"] == (supervised == "classify")
    again = {"stage": "distil", "teacher": tmp_path / "tuned", "from_run": folder}
    result = train_similar.main(config(files, tmp_path / "back", **plain | again))
    assert np.isfinite(result["held_out_loss"])
    table = np.load(tmp_path / "back" / "teacher.npy")
    texts = [text for group in sentences() for text in group]
    np.testing.assert_allclose(
        table, TrainedSimilar.open(tmp_path / "tuned").encode(texts), atol=1e-6
    )


def test_spearman_of_labelled_pairs_from_elsewhere_chooses_the_checkpoint(
    files: dict[str, Path], tmp_path: Path
) -> None:
    result = train_similar.main(
        config(files, tmp_path / "run", validation=(files["labelled"],), generation=0.0)
    )
    opened = TrainedSimilar.open(tmp_path / "run", checkpoint="last")
    rows = [json.loads(line) for line in files["labelled"].read_text().splitlines()]
    a = opened.encode([row[0] for row in rows])
    b = opened.encode([row[1] for row in rows])
    expected = spearmanr((a * b).sum(1), [row[2] for row in rows]).statistic
    assert result["spearman"] == pytest.approx(expected, abs=1e-6)
    assert "generation_nats_per_token" not in result
    validations = Run.open(tmp_path / "run").rows("validation")
    assert [row["selection"] for row in validations] == [-row["spearman"] for row in validations]
    # a model that cannot write shows nothing
    assert not list((tmp_path / "run" / "samples").iterdir())


def test_labels_are_compared_within_a_file(files: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.tsv"
    other.write_text(
        "".join(
            f"{a} {b} 1\t{a} {OTHERWISE[b]} 1\t{i}\n" for i, (a, b) in enumerate(product(WHO, DOES))
        )
    )
    both = (files["labelled"], other)
    groups = read_groups(*both)
    assert np.bincount(groups.files).tolist() == [72, 12]
    result = train_similar.main(
        config(
            files, tmp_path / "run", pairs=both, validation=both, stage="finetune", generation=0.0
        )
    )
    opened = TrainedSimilar.open(tmp_path / "run", checkpoint="last")
    each = []
    for path in both:
        one = read_groups(path)
        a, b = (opened.encode([one.texts[i] for i in side]) for side in one.pairs.T)
        each.append(spearmanr((a * b).sum(1), one.scores).statistic)
    assert result["spearman_of_files"] == pytest.approx(each, abs=1e-6)
    assert result["spearman"] == pytest.approx(np.mean(each), abs=1e-6)
    corpus = Corpus.open(tmp_path / "run" / "corpus")
    task = LabelTask(
        opened.model,
        SentenceObjective(batch_size=5),
        0,
        Examples(groups, corpus, np.arange(84), np.arange(0)),
    )
    batches = task.batches(0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(84))
    assert all(len(set(groups.files[batch])) == 1 for batch in batches)
    order = [int(groups.files[batch][0]) for batch in batches]
    assert order != sorted(order)
    assert [batch.tolist() for batch in task.batches(1)] != [batch.tolist() for batch in batches]
    objective = SentenceObjective(batch_size=5)
    task = LabelTask(
        opened.model, objective, 0, dataclasses.replace(task.examples, held_out=np.arange(84))
    )
    assert (task.validation_rows, task.fewest_rows) == (84, 64)
    assert task.validate_rows(NOW, 84) == task.validate(NOW)
    part = task.validate_rows(NOW, 40)
    assert (part["labelled_pairs"], len(part["spearman_of_files"])) == (40, 2)  # of both files
    assert part == task.validate_rows(NOW, 40)


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"window": 2, "clip": 0.0}, marks=pytest.mark.slow)]
)
def test_chunked_training_is_training(
    files: dict[str, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    for name, size in (("whole", 0), ("chunks", 5)):
        train_similar.train(config(files, tmp_path / name, chunk_size=size, steps=3, **options))
    whole, chunks = (
        TrainedSimilar.open(tmp_path / name, checkpoint="last").model.state_dict()
        for name in ("whole", "chunks")
    )
    for name, value in whole.items():
        torch.testing.assert_close(chunks[name], value, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_contrast_everybodys_pairs_in_chunks_or_not(
    files: dict[str, Path], tmp_path: Path, started: Callable[..., dict[str, Any]]
) -> None:
    options = (
        SHAPE
        | TRAINING
        | {"pairs": files["pairs"], "dropout": 0.0, "noise_rows": 0.0, "log_every": 1}
    )
    flags = [
        part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)
    ]
    for name, chunk in (("whole", 0), ("chunks", 5)):
        own = ["--gather", "--chunk-size", chunk, "--out", tmp_path / name, "--device", "cpu"]
        started(2, "experiments.train_similar", *flags, *own)
    whole, chunks = (
        TrainedSimilar.open(tmp_path / name, checkpoint="last").model.state_dict()
        for name in ("whole", "chunks")
    )
    for name, value in whole.items():
        torch.testing.assert_close(chunks[name], value, atol=1e-4, rtol=1e-3)
    alone = config(files, tmp_path / "whole", dropout=0.0, noise_rows=0.0)
    examples = alone.corpora.examples()
    text = alone.corpora.text()
    reseed(alone.training.seed, "weights")
    model = RoFormerSim(similar_config(alone.flat(), text.vocab_size))
    task = PairTask(
        model,
        alone.objective,
        alone.training.seed,
        examples,
        WordNoise(text.tokenizer, model.mask, alone.objective.noise()),
    )
    first = [task.load(item) for item in task.batches(0)[:2]]
    vectors = torch.nn.functional.normalize(
        torch.cat([model.read(batch.source) for batch in first]), dim=-1
    )
    expected = paired_info_nce(vectors, groups=torch.cat([batch.families for batch in first]))
    for name in ("whole", "chunks"):
        assert Run.open(tmp_path / name).rows()[0]["contrastive"] == pytest.approx(
            expected.item(), rel=1e-4
        )


@pytest.mark.slow
def test_a_small_model_learns_to_tell_its_groups_apart(
    files: dict[str, Path], tmp_path: Path
) -> None:
    result = train_similar.main(
        config(
            files, tmp_path / "run", steps=70, lr=5e-3, batch_size=12, width=32, validate_every=0
        )
    )
    assert result["recall_at_1"] >= 0.8  # of six groups or seven; chance is a sixth
    first, *_, last = Run.open(tmp_path / "run").rows("train")
    assert last["generation_nats_per_token"] < 0.9 * first["generation_nats_per_token"]


# What the commands return, and what they refuse.


def test_similar_texts_come_ranked_and_reproducible(folder: Path) -> None:
    options = {"run": folder, "text": "a man sees the cat", "count": 4, "samples": 60, "top_p": 1.0}
    one, again, other = (
        similar.main(similar.Config(**options, seed=seed))["results"] for seed in (0, 0, 1)
    )
    assert one == again != other
    scores = [score for _, score in one]
    assert scores == sorted(scores, reverse=True)
    assert len({text for text, _ in one}) == len(one) == 4
    kept = similar.main(similar.Config(**options, keep=("cat",)))["results"]
    assert kept
    assert all("cat" in text.split() for text, _ in kept)
    masked = similar.main(similar.Config(**options, mask=("man", "cat"), diversity=0.5))["results"]
    assert masked
    assert masked != one


def test_search_finds_a_text_itself_and_remembers_the_vectors(
    files: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(files["corpus"].read_text())
    text = corpus.read_text().splitlines()[7]
    options = {"run": folder, "text": text, "corpus": corpus, "count": 3}
    first, second = (search.main(search.Config(**options)) for _ in range(2))
    assert (first["cached"], second["cached"], first["texts"]) == (False, True, 36)
    assert first["results"] == second["results"]
    assert first["results"][0][0] == text
    assert first["results"][0][1] == pytest.approx(1, abs=1e-5)
    matrix = np.load(first["vectors"])
    np.testing.assert_allclose(
        matrix, TrainedSimilar.open(folder).encode(corpus.read_text().splitlines()), atol=1e-6
    )
    half = search.main(search.Config(**options, vectors=tmp_path / "half.npy", precision="float16"))
    assert np.load(tmp_path / "half.npy").dtype == np.float16
    assert half["results"][0][0] == text
    with corpus.open("a") as file:
        file.write("a new text\n")
    changed = search.main(search.Config(**options))
    assert changed["cached"] is False
    assert np.load(changed["vectors"]).shape == (37, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "corpus.txt", "half.json", "half.npy",
    ]  # fmt: skip


def test_an_encoding_that_breaks_off_leaves_no_vectors(
    files: dict[str, Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self, texts, tally=None):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(TrainedSimilar, "encode_blocks", stop)
    with pytest.raises(KeyboardInterrupt):
        search.main(
            search.Config(run=folder, text="a", corpus=files["corpus"], vectors=tmp_path / "v.npy")
        )
    assert list(tmp_path.iterdir()) == []


def test_encode_serves_sentence_models(
    files: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    result = encode.main(
        encode.Config(run=folder, data=str(files["corpus"]), out=tmp_path / "v.npy", limit=5)
    )
    vectors = np.load(tmp_path / "v.npy")
    assert list(vectors.shape) == result["shape"] == [5, 16]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    lines = files["corpus"].read_text().splitlines()[:5]
    one = TrainedSimilar.open(folder).encode(lines[3:4])
    np.testing.assert_allclose(vectors[3], one[0], atol=1e-6)  # whatever it was padded with


def test_mistakes_are_explained_in_one_line_and_leave_nothing(
    files: dict[str, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = (
        "train-similar",
        "--pairs",
        files["pairs"],
        "--out",
        tmp_path / "run",
        "--tokenizer",
        "words",
    )
    assert "--pairs needs at least one file" in refused(
        capsys, "train-similar", "--out", tmp_path / "run", "--pairs"
    )
    assert "--stage distil needs a --teacher" in refused(capsys, *base, "--stage", "distil")
    assert "needs labelled pairs" in refused(capsys, *base, "--stage", "finetune")
    assert "x does not exist" in refused(capsys, *base, "--from", files["folder"] / "x")
    labels = ("train-similar", "--pairs", files["labelled"], "--out", tmp_path / "run")
    assert "has labels, which --stage pretrain does not read" in refused(capsys, *labels)
    chunked = (*labels, "--stage", "finetune", "--chunk-size", 4)
    assert "--chunk-size is an option of pretrain and distil" in refused(capsys, *chunked)
    classified = (*labels, "--stage", "finetune", "--supervised", "classify", "--gather")
    assert "--gather with --stage finetune is an option of --supervised cosent" in refused(
        capsys, *classified
    )
    assert "width=32: --from" in refused(capsys, *base, "--from", folder, "--width", 32)
    write_table(tmp_path / "t.npz", ["a man"], np.ones((1, 3)))
    said = refused(capsys, *base, "--stage", "distil", "--teacher", tmp_path / "t.npz")
    assert "lacks 108 of 108 texts" in said
    (tmp_path / "one.tsv").write_text("a\nb\n")
    single = ("train-similar", "--pairs", tmp_path / "one.tsv", "--out", tmp_path / "run")
    assert "needs two of a kind" in refused(capsys, *single)
    assert not (tmp_path / "run").exists()
    assert "the text has no word 'bird'" in refused(
        capsys, "similar", folder, "a man", "--mask", "bird"
    )
    assert "the text is empty" in refused(capsys, "similar", folder, " ")
    assert "count must be at least 1" in refused(
        capsys, "search", folder, "a", "--corpus", files["corpus"], "--count", 0
    )
    assert "no such file" in refused(
        capsys, "search", folder, "a", "--corpus", tmp_path / "none.txt"
    )
    text_model = refused(capsys, "sample", folder)
    assert "is the run of a sentence model, and univae sample takes one of" in text_model


# What is left out, cut or unknown is said in numbers.


def test_cut_texts_are_counted_in_training(files: dict[str, Path], tmp_path: Path, capsys) -> None:
    source = tmp_path / "pairs.tsv"
    judges = tmp_path / "judges.tsv"
    source.write_text(
        files["pairs"].read_text().replace("\n", "\n\n", 2)
        + "a man " * 10
        + "\t"
        + "the cat " * 9
        + "\n"
    )
    judges.write_text("a man\ttwo dogs\t1\na girl\t" + "a girl " * 9 + "\t2\na man\ta girl\t3\n")
    settings = config(files, tmp_path / "run", pairs=(source,), validation=(judges,), steps=1)
    result = train_similar.main(settings)
    notes = [
        f"{source}: left out 2 blank lines",
        "--pairs: 2 of 110 texts (1.8%) have more than max_length=16 tokens and were cut to it; raise --max-length",
        "--validation: 1 of 4 texts (25%) has more than max_length=16 tokens and was cut to it; raise --max-length",
    ]
    assert (result["cut"], result["validation_cut"], result["notes"]) == (2, 1, notes)
    assert (result["unknown_words_training"], result["unknown_words_held_out"]) == (0, 0)
    assert [line for line in capsys.readouterr().err.splitlines() if "note: " in line] == [
        f"note: {n}" for n in notes
    ]
    assert json.loads((tmp_path / "run" / "DONE").read_text())["notes"] == notes
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(note in page for note in notes)
    assert train_similar.main(settings.change(resume=True))["notes"] == notes


def test_the_share_of_unknown_words_is_reported(files: dict[str, Path], tmp_path: Path) -> None:
    result = train_similar.main(config(files, tmp_path / "run", steps=1, vocab_size=10))
    words = json.loads((tmp_path / "run" / "tokenizer.json").read_text())["words"]
    groups = read_groups(files["pairs"])
    for name, rows in zip(("training", "held_out"), groups.split(0.15, 0), strict=True):
        texts = {
            groups.texts[i]
            for row in rows
            for i in groups.members[groups.offsets[row] : groups.offsets[row + 1]]
        }
        spoken = " ".join(texts).split()
        unknown = sum(word not in words for word in spoken)
        assert result[f"unknown_words_{name}"] == pytest.approx(unknown / len(spoken))
        assert any(f"{unknown} of {len(spoken)} words" in note for note in result["notes"])


def test_encode_search_and_similar_say_what_was_cut_or_unknown(
    folder: Path, tmp_path: Path, capsys
) -> None:
    corpus = tmp_path / "corpus.txt"
    long = "a man sees " * 8
    corpus.write_text(f"a man\n\n{long}\nthe zebra\n{long}two\r\n")
    encoded = encode.main(encode.Config(run=folder, data=str(corpus), out=tmp_path / "v.npy"))
    options = {"run": folder, "text": f"{long}emu", "corpus": corpus}
    first, second = (search.main(search.Config(**options)) for _ in range(2))
    written = similar.main(similar.Config(run=folder, text=f"{long}emu", samples=5))
    assert [result["cut"] for result in (encoded, first, second, written)] == [2, 2, 2, 1]
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["notes"] == second["notes"]
    blank, cut, unknown, *query = first["notes"]
    assert (
        blank
        == f"--corpus {corpus}: left out 1 blank line, the carriage return at the end of 1 line"
    )
    assert "2 of 4 texts (50%) have more than max_length=16 tokens and were cut to it" in cut
    assert "1 of 53 words (1.9%) is unknown to the vocabulary and read as <unk>" in unknown
    assert encoded["notes"] == [note.removeprefix("--corpus ") for note in (blank, cut, unknown)]
    assert query == written["notes"][:-1]
    assert re.match(r"\d of 10 asked: 5 texts were generated, ", written["notes"][-1])
    assert (
        "the text: 1 of 1 texts (100%) has more than max_length=16 tokens and was cut to it"
        in query[0]
    )
    assert "1 of 25 words" in query[1]
    assert (
        len([line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")])
        == 3 + 5 + 5 + 3
    )


def test_a_teacher_says_which_texts_it_cut(
    files: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(files["pairs"].read_text() + "a man " * 9 + "\ta man\n")
    settings = config(
        files,
        tmp_path / "run",
        pairs=(pairs,),
        stage="distil",
        teacher=folder,
        max_length=32,
        steps=1,
    )
    result = train_similar.main(settings)
    assert result["cut"] == 0
    assert result["notes"] == [
        "--teacher: 1 of 110 texts (0.91%) has more than max_length=16 tokens and was cut to it"
    ]


# A run folder stands for itself.


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[train_similar.Config], train_similar.Config]:
    """Train two steps of six with a checkpoint at each, and returns the configuration to resume with."""

    def stop(task, batch, progress):
        if progress.step == 2:
            raise KeyboardInterrupt
        return task.plain_loss(batch, progress)

    def train(settings: train_similar.Config) -> train_similar.Config:
        with monkeypatch.context() as patch:
            for kind in (PairTask, LabelTask):
                patch.setattr(kind, "plain_loss", kind.loss, raising=False)
                patch.setattr(kind, "loss", stop)
            with pytest.raises(KeyboardInterrupt):
                train_similar.train(settings.change(checkpoint_every=1))
        return settings.change(checkpoint_every=1, resume=True)

    return train


def test_a_resumed_run_of_other_pairs_labels_validation_or_teacher_is_refused(
    files: dict[str, Path], tmp_path: Path, stopped: Callable[..., train_similar.Config]
) -> None:
    pairs = tmp_path / "pairs.tsv"
    judges = tmp_path / "judges.jsonl"
    table = tmp_path / "teacher.npz"
    pairs.write_bytes(files["pairs"].read_bytes())
    judges.write_bytes(files["labelled"].read_bytes())
    texts = read_groups(pairs).texts
    write_table(table, texts, np.random.default_rng(0).normal(size=(len(texts), 4)))
    distil = {"pairs": (pairs,), "validation": (judges,), "stage": "distil", "teacher": table}
    rows = [line.split("\t") for line in pairs.read_text().splitlines()]
    regrouped = [rows[0] + rows[1], *rows[2:]]  # the same texts in the same order
    labels = [json.loads(line) for line in judges.read_text().splitlines()]
    relabelled = [[a, b, 1 - label] for a, b, label in labels]
    settings = stopped(config(files, tmp_path / "run", **distil))
    finetune = stopped(config(files, tmp_path / "tuned", pairs=(judges,), stage="finetune"))
    as_tsv, as_jsonl = (
        "".join(f"{line}\n" for line in lines)
        for lines in (map("\t".join, regrouped), map(json.dumps, relabelled))
    )
    before = everything(tmp_path)
    for which, path, content in (
        (settings, pairs, as_tsv),
        (settings, judges, as_jsonl),
        (finetune, judges, as_jsonl),
        (settings, table, None),
    ):
        whole = path.read_bytes()
        if content is None:
            write_table(table, texts, np.random.default_rng(1).normal(size=(len(texts), 4)))
        else:
            path.write_text(content)
        with pytest.raises(
            InputError, match=rf"was started with other data.*{path.name}: \d+ then, \d+ now"
        ):
            train_similar.train(which)
        path.write_bytes(whole)
        assert everything(tmp_path) == before
    table.unlink()  # the run holds the vectors it needs
    assert train_similar.train(settings)["steps"] == 6
    assert train_similar.train(finetune)["steps"] == 6


def test_sources_mean_the_same_files_from_every_folder(
    files: dict[str, Path],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped: Callable[..., train_similar.Config],
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for source, target in ((files["pairs"], "p.tsv"), (files["labelled"], "v.jsonl")):
            (tmp_path / name / target).write_bytes(source.read_bytes())
    shutil.copytree(folder, tmp_path / "one" / "start")
    monkeypatch.chdir(tmp_path / "one")
    names = {"pairs": (Path("p.tsv"),), "validation": (Path("v.jsonl"),), "from_run": Path("start")}
    names |= {"stage": "distil", "teacher": Path("start")}
    plain = {name: options_of(train_similar.Config)[name].default for name in SHAPE}
    stopped(config(files, tmp_path / "run", **plain, **names))
    saved = Run.open(tmp_path / "run").config
    here = str(tmp_path / "one")
    assert saved["pairs"] == [f"{here}/p.tsv"]
    assert saved["validation"] == [f"{here}/v.jsonl"]
    assert saved["from_run"] == saved["teacher"] == f"{here}/start"
    monkeypatch.chdir(tmp_path / "two")
    shutil.rmtree(tmp_path / "one" / "start")  # its weights and vectors are in the run
    found = stored(train_similar.Config, Run.open(tmp_path / "run"), resume=True)
    assert train_similar.train(found)["steps"] == 6


def test_a_run_without_a_record_of_its_data_is_resumed_by_its_corpora(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stopped: Callable[..., train_similar.Config],
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_bytes(files["pairs"].read_bytes())
    settings = stopped(config(files, tmp_path / "run", pairs=(pairs,)))
    (tmp_path / "run" / "data.json").unlink()
    without_checksums(tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "config.json").read_text()) | {"pairs": ["pairs.tsv"]}
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    monkeypatch.chdir(tmp_path)
    settings = settings.change(pairs=(Path("pairs.tsv"),))
    before = everything(tmp_path / "run")
    pairs.write_text(files["pairs"].read_text() + "a new\ttext\n")
    with pytest.raises(InputError, match="was built with other texts"):
        train_similar.train(settings)
    assert everything(tmp_path / "run") == before
    pairs.write_bytes(files["pairs"].read_bytes())
    assert train_similar.train(settings)["steps"] == 6


def test_an_exchanged_tokenizer_is_refused(folder: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["words"].reverse()
    path.write_text(json.dumps(tokenizer))
    said = refused(capsys, "similar", tmp_path / "run", "a man")
    assert f"{path} is not the tokenizer that the run was trained with" in said


@pytest.mark.usefixtures("unchecked")
def test_values_of_another_type_in_the_configuration_are_named(
    folder: Path, tmp_path: Path, capsys
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    saved = json.loads(path.read_text())
    for name, value, rule in (
        ("lowercase", "no", "true or false"),
        ("width", [16], "a whole number"),
    ):
        path.write_text(json.dumps(saved | {name: value}))
        assert f"config.json: {name} must be {rule}" in refused(
            capsys, "similar", tmp_path / "run", "a man"
        )


@pytest.mark.parametrize(
    "damage", ["cut", "rows", "shape", "dtype", "bit", "header", "json", "type", "old"]
)
def test_damaged_vectors_are_made_again(
    files: dict[str, Path], folder: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "v.npy"
    recipe = tmp_path / "v.json"
    options = {
        "run": folder,
        "text": "a man sees the cat",
        "corpus": files["corpus"],
        "vectors": path,
    }
    expected = search.main(search.Config(**options))
    whole = path.read_bytes()
    matrix = np.load(path)
    stored_recipe = json.loads(recipe.read_text())
    if damage == "cut":
        path.write_bytes(whole[:-40])
    elif damage == "bit":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 0x40]))
    elif damage == "header":
        path.write_bytes(whole.replace(b"(36, 16)", b"(36, 16 "))
    elif damage == "json":
        recipe.write_text("[" * 100_000)
    elif damage == "type":
        recipe.write_text(json.dumps(stored_recipe | {"cut": "none"}))
    elif damage == "old":  # as version 0.1.0 wrote it
        kept = ("texts", "fingerprint", "weights", "max_length", "precision")
        recipe.write_text(json.dumps({name: stored_recipe[name] for name in kept}))
    else:
        wrong = {"rows": matrix[::-1], "shape": matrix[:20], "dtype": matrix.astype(np.float64)}[
            damage
        ]
        np.save(path, wrong)
        if damage != "rows":  # also where the checksum is right
            recipe.write_text(json.dumps(stored_recipe | {"checksum": fingerprint_file(path)}))
    if damage == "json":  # nothing says any more that the matrix is this command's
        with pytest.raises(InputError, match="it exists; give another name, or --overwrite"):
            search.main(search.Config(**options))
        options["overwrite"] = True
    again = search.main(search.Config(**options))
    assert again == expected | {"cached": False}
    assert path.read_bytes() == whole
    rewritten = json.loads(recipe.read_text())
    assert rewritten | {"file": None} == stored_recipe | {"file": None}
    assert search.main(search.Config(**options))["cached"] is True


def test_the_matrix_is_hashed_again_only_where_its_file_has_changed(
    files: dict[str, Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.npy"
    hashed: list[Path] = []

    def fingerprint(file: Path) -> str:
        hashed.append(file)
        return fingerprint_file(file)

    monkeypatch.setattr(vector_file, "fingerprint_file", fingerprint)
    query = search.Config(run=folder, text="a man", corpus=files["corpus"], vectors=path)
    first = search.main(query)
    assert hashed == [path]  # when it was written
    assert search.main(query) == first | {"cached": True}
    assert hashed == [path]
    os.utime(path, (0, 0))  # the same bytes: hashed once more, and kept
    assert [search.main(query)["cached"] for _ in range(2)] == [True, True]
    assert hashed == [path, path]
    recipe = json.loads(path.with_suffix(".json").read_text())
    del recipe["file"]  # as an earlier version wrote it
    path.with_suffix(".json").write_text(json.dumps(recipe))
    assert [search.main(query)["cached"] for _ in range(2)] == [True, True]
    assert hashed == [path, path, path]


@pytest.mark.parametrize("same", ["size", "size and time"])
def test_a_foreign_matrix_of_the_same_size_is_not_read(
    files: dict[str, Path], folder: Path, tmp_path: Path, same: str
) -> None:
    path = tmp_path / "v.npy"
    query = search.Config(run=folder, text="a man", corpus=files["corpus"], vectors=path)
    first = search.main(query)
    times = path.stat()
    np.save(path, np.load(path)[::-1].copy())
    if same == "size and time":
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert search.main(query) == first | {"cached": False}


@pytest.mark.parametrize(
    ("factor", "shown"), [(4.9e37, "4.9e+37"), (1.001, "1.001"), (np.nan, "nan")]
)
def test_a_cosine_beyond_one_is_an_error(
    files: dict[str, Path], folder: Path, tmp_path: Path, capsys, factor: float, shown: str
) -> None:
    path = tmp_path / "v.npy"
    recipe = tmp_path / "v.json"
    text = files["corpus"].read_text().splitlines()[3]
    argv = ("search", folder, text, "--corpus", files["corpus"], "--vectors", path)
    search.main(search.Config(run=folder, text=text, corpus=files["corpus"], vectors=path))
    matrix = np.load(path)
    matrix[3] *= factor
    np.save(path, matrix)
    state = json.loads(recipe.read_text()) | {"checksum": fingerprint_file(path)}
    recipe.write_text(json.dumps(state))
    assert f"{path}: a cosine of {shown}" in refused(capsys, *argv)


def test_rounded_vectors_have_cosines_within_the_rounding(
    files: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    options = {
        "run": folder,
        "corpus": files["corpus"],
        "vectors": tmp_path / "v.npy",
        "precision": "float16",
    }
    for text in files["corpus"].read_text().splitlines()[:4]:
        assert search.main(search.Config(**options, text=text))["results"][0][1] == pytest.approx(
            1, abs=2e-3
        )


def test_too_few_labelled_pairs_and_pipes_are_refused_before_training(
    files: dict[str, Path], folder: Path, tmp_path: Path, capsys
) -> None:
    few = tmp_path / "few.tsv"
    pipe = tmp_path / "pipe"
    run = tmp_path / "run"
    few.write_text("".join(f"a {i}\tb {i}\t{i}\n" for i in range(6)))
    (tmp_path / "one.tsv").write_text("a\tb\t1\n")
    os.mkfifo(pipe)
    tune = ("train-similar", "--stage", "finetune", "--out", run, "--pairs")
    line = refused(capsys, *tune, few)
    assert (
        "2 held-out labelled pairs are needed; 6 pairs with --held-out 0.05 give 1; raise it"
        in line
    )
    line = refused(capsys, *tune, few, "--validation", few, tmp_path / "one.tsv")
    assert (
        f"2 held-out labelled pairs are needed; --validation {tmp_path / 'one.tsv'} gives 1" in line
    )
    assert "is not a file that can be read twice" in refused(capsys, *tune, pipe)
    assert "is not a file that can be read twice" in refused(
        capsys, *tune, few, "--validation", pipe
    )
    distil = (
        "train-similar",
        "--stage",
        "distil",
        "--out",
        run,
        "--pairs",
        files["pairs"],
        "--teacher",
    )
    assert f"teacher: {pipe} is no file" in refused(capsys, *distil, pipe)
    assert "is not a file that can be read twice" in refused(
        capsys, "search", folder, "a", "--corpus", pipe
    )
    assert not run.exists()


def test_one_held_out_group_is_noted(files: dict[str, Path], tmp_path: Path) -> None:
    result = train_similar.train(config(files, tmp_path / "run", steps=1, held_out=0.03))
    assert result["notes"] == [
        "--held-out 0.03 of 36 groups holds out 1: recall and contrast of a single one say nothing; raise it"
    ]


def test_options_take_the_name_from(
    files: dict[str, Path], folder: Path, tmp_path: Path, capsys
) -> None:
    argv = [
        "train-similar",
        "--pairs",
        files["pairs"],
        "--out",
        tmp_path / "run",
        "--from",
        folder,
        "--steps",
        1,
    ]
    argv += ["--batch-size", 6, "--held-out", 0.15, "--generation", 0, "--threads", 1]
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in argv])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 1
    saved = Run.open(tmp_path / "run").config
    assert (saved["from_run"], saved["width"]) == (str(folder), 16)
    assert best_validation(Run.open(tmp_path / "run"))["recall_at_10"] <= 1


def test_a_constant_has_no_rank_and_ties_count_against_the_own_text() -> None:
    assert correlation(np.ones(3), np.arange(3)) is None
    assert correlation(np.arange(3.0), np.ones(3)) is None
    assert correlation(np.ones(1), np.ones(1)) is None
    assert correlation(np.ones(0), np.ones(0)) is None
    assert math.isnan(correlation(np.array([0.1, math.nan]), np.arange(2)))
    assert selection({"spearman": None}) == 0.0
    assert selection({"spearman": 0.25}) == -0.25
    # a model that is broken is never the best one
    assert math.isnan(selection({"spearman": math.nan}))
    assert correlation(np.array([0.1, 0.2, 0.9]), np.array([1, 2, 3])) == pytest.approx(1)
    assert rank_of_pair(np.full((3, 3), math.nan)).tolist() == [2, 2, 2]
    assert rank_of_pair(np.array([[0.9, 0.9, 0.1], [0.2, 0.5, 0.1], [0.5, 0.6, 0.2]])).tolist() == [
        1,
        0,
        2,
    ]


def test_a_batch_moves_as_a_whole() -> None:
    from experiments.training.distributed import to_device

    batch = Batch(*(torch.zeros(2, 1) for _ in range(6)), step_rows=4, step_tokens=9)
    assert type(to_device(batch, torch.device("cpu"))) is Batch


def test_labels_that_are_all_alike_leave_no_correlation_and_a_reason(
    files: dict[str, Path], tmp_path: Path
) -> None:
    torch.set_default_dtype(torch.float32)
    path = tmp_path / "alike.jsonl"
    lines = files["labelled"].read_text(encoding="utf-8").splitlines()
    labelled = [json.dumps([*json.loads(line)[:2], 1.0]) for line in lines]
    path.write_text("\n".join(labelled) + "\n", encoding="utf-8")
    train_similar.train(config(files, tmp_path / "run", steps=2, validation=(path,)))
    (row,) = Run.open(tmp_path / "run").rows("validation")[-1:]
    assert row["spearman"] is None
    assert row["spearman_undefined"].startswith(
        "1 of 1 files of pairs have no rank correlation: their labels"
    )
    assert row["selection"] == 0.0


def test_a_file_beside_the_corpus_is_read_where_search_made_it_and_never_written(
    files: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "c.txt"
    corpus.write_text("one cat\ntwo cats\n")
    beside = tmp_path / "c.txt.vectors.npy"
    query = search.Config(run=folder, text="a man", corpus=corpus)
    np.save(beside, np.ones(3))
    foreign = beside.read_bytes()
    first = search.main(query)
    assert (first["cached"], beside.read_bytes()) == (False, foreign)
    assert Path(first["vectors"]).parent == folder / "vectors"

    Path(first["vectors"]).replace(beside)  # as an earlier version placed them
    Path(first["vectors"]).with_suffix(".json").replace(beside.with_suffix(".json"))
    assert search.main(query) == first | {"cached": True, "vectors": str(beside)}
    corpus.write_text("one cat\ntwo dogs\n")
    changed = search.main(query)
    assert (changed["cached"], Path(changed["vectors"]).parent) == (False, folder / "vectors")


def test_vectors_go_to_the_users_cache_where_the_run_cannot_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run, ignore=shutil.ignore_patterns("vectors"))
    (run / "vectors").write_text("a file in the place of the folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "c.txt").write_text("one cat\ntwo cats\n")
    query = search.Config(run=run, text="a man", corpus=tmp_path / "c.txt")
    first = search.main(query)
    assert Path(first["vectors"]).parent == tmp_path / "cache" / "univae" / "vectors"
    assert search.main(query) == first | {"cached": True}
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    with pytest.raises(InputError, match=r"can be written to; give --vectors FILE\.npy"):
        search.main(query)


def test_many_queries_give_what_each_of_them_gives_alone(
    files: dict[str, Path], folder: Path, tmp_path: Path, capsys
) -> None:
    asked = ["a man sees the cat", "two dogs"]
    queries = tmp_path / "queries.csv"
    queries.write_text("id,question\n" + "".join(f"{i},{q}\n" for i, q in enumerate(asked)))
    options = {"run": folder, "corpus": files["corpus"], "count": 3}
    together = search.main(search.Config(queries=queries, **options))
    assert together["queries"] == 2
    alone = [search.main(search.Config(text=text, **options))["results"] for text in asked]
    for query, row, results in zip(asked, together["results"], alone, strict=True):
        assert row["query"] == query
        assert [text for text, _ in row["results"]] == [text for text, _ in results]
        np.testing.assert_allclose([s for _, s in row["results"]], [s for _, s in results], 1e-5)

    out = tmp_path / "results.jsonl"
    written = search.main(search.Config(queries=queries, out=out, **options))
    assert "results" not in written
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    corpus = files["corpus"].read_text().splitlines()
    assert [row["rank"] for row in rows] == [1, 2, 3] * 2
    assert [row["query"] for row in rows] == [asked[0]] * 3 + [asked[1]] * 3
    assert all(corpus[row["row"]] == row["text"] for row in rows)
    assert [[row["text"], row["score"]] for row in rows[:3]] == together["results"][0]["results"]
    capsys.readouterr()
    both = ("search", folder, "a", "--corpus", files["corpus"])
    assert "TEXT and --queries: give one" in refused(capsys, *both, "--queries", queries)
    assert "results are written as .jsonl" in refused(capsys, *both, "--out", tmp_path / "a.csv")


def test_a_corpus_is_files_folders_or_a_column_and_the_text_may_come_after_it(
    files: dict[str, Path], folder: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("a man\n")
    (tmp_path / "b.csv").write_text("title,body\nthe cat,two dogs\n")
    argv = ["search", folder, "--corpus", tmp_path / "docs", tmp_path / "b.csv:body", "two dogs"]
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in [*argv, "--count", 1]])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (stop.value.code, result["texts"], result["text"]) == (0, 2, "two dogs")
    assert result["results"][0][0] == "two dogs"
    column = search.Config(run=folder, text="x", corpus=tmp_path / "b.csv", column="title")
    assert search.main(column)["results"][0][0] == "the cat"
    capsys.readouterr()
    missing = refused(capsys, "search", folder, "--corpus", files["corpus"])
    assert "the text is empty; give a sentence, or --queries FILE" in missing


def test_similar_says_why_it_returns_fewer_and_takes_many_texts(
    folder: Path, tmp_path: Path, capsys
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a man sees the cat\ntwo dogs\n")
    out = tmp_path / "out.jsonl"
    result = similar.main(
        similar.Config(run=folder, texts=texts, out=out, count=30, samples=20, temperature=0.5)
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    (note,) = result["notes"]
    match = re.match(r"(\d+) of 60 asked, for 2 of 2 texts: 40 texts were generated, (.*);", note)
    assert match
    assert int(match[1]) == len(rows) < 40
    removed = sum(int(part.split()[0]) for part in match[2].split(", "))
    assert removed == 40 - len(rows)
    assert {row["source"] for row in rows} <= set(texts.read_text().splitlines())
    assert [row["rank"] for row in rows][:2] == [1, 2][: len(rows)]
    enough = similar.Config(run=folder, text="two dogs", count=1, samples=50)
    assert "notes" not in similar.main(enough)
    capsys.readouterr()
    assert "TEXT and --texts" in refused(capsys, "similar", folder, "a", "--texts", texts)
