"""The studies of sentence models, end to end on a few made-up lines; and what they measure with."""

import argparse
import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from experiments.sentences.teacher import read_table
from experiments.studies import sentences, similar_en, similar_en_texts, similar_zh
from univae.errors import InputError


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def zipped(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))


def made_up(folder: Path) -> Path:
    """The files the studies read, with a few lines in each."""
    who = ["a man", "two dogs", "the girl", "a red car"]
    what = ["runs", "sees a ball", "is not here", "waits, alone"]
    texts = [f"{a} {b}" for a in who for b in what]
    for part in ("train", "val"):
        for i in range(1, 6):
            zipped(
                folder / "multi30k_en" / f"task2.{part}.{i}.en.gz",
                [f"{t} in picture {i}." for t in texts],
            )
    for part in ("dev", "test"):
        rows = [f"{n % 2}\twhy is it {t}?\t{t}, why{n}?\t{n}" for n, t in enumerate(texts)]
        zipped(folder / "qqp_20k" / f"{part}.tsv.gz", rows)
    zipped(
        folder / "tatoeba_cmn_eng" / "cmn.txt.gz",
        [f"{t}!\t句{n // 2}\tfrom" for n, t in enumerate(texts)],
    )
    chinese = [
        f"我{a}{b}你{n}" for n, (a, b) in enumerate((a, b) for a in "喜看想要" for b in "猫狗鱼鸟")
    ]
    for language, lines in (("en", texts), ("zh", chinese)):
        for part in ("train", "dev", "test"):
            rows = [f'"{a}","{b}, {part}",{n % 6}.0' for n, (a, b) in enumerate(pairwise(lines))]
            zipped(folder / "stsb" / f"stsb-{language}-{part}.csv.gz", rows)
    pairs = list(zip(chinese, [c + "吗" for c in chinese], strict=True))
    zipped(
        folder / "atec" / "atec_nlp_sim_train.csv.gz",
        [f"\ufeff{n}\t{a}\t{b}\t{n % 2}" for n, (a, b) in enumerate(pairs)],
    )
    for part in ("dev", "test"):
        zipped(
            folder / "lcqmc" / f"{part}.txt.gz",
            [f"{a}？\t{b}\t{n % 2}" for n, (a, b) in enumerate(pairs)],
        )
        rows = [
            "\ufeffsentence1,sentence2,label",
            *(f"{a},{b}呢,{n % 2}" for n, (a, b) in enumerate(pairs)),
        ]
        zipped(folder / "bq_corpus" / f"{part}.csv.gz", rows)
    return folder


class Letters:
    """A teacher that counts letters."""

    width = 16
    asked: ClassVar[list[str]] = []

    def vocabulary(self) -> list[str]:
        return ["cat", "dog", "tree"]

    def encode(self, texts: list[str]) -> np.ndarray:
        self.asked.extend(texts)
        counts = np.array(
            [[text.count(c) + 0.01 for c in "abcdefghijklmnop"] for text in texts], np.float32
        )
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    words = encode


SMALL = {"width": 16, "heads": 2, "layers": 1, "max_length": 12}


@pytest.mark.slow
def test_the_english_study_distils_and_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(similar_en, "MiniLM", Letters)
    monkeypatch.setattr(similar_en, "SHAPE", {**similar_en.SHAPE, **SMALL, "vocab_size": 300})
    monkeypatch.setattr(similar_en, "TRAINING", {**similar_en.TRAINING, "held_out": 0.2})
    argv = [
        "--data",
        str(made_up(tmp_path / "data")),
        "--out",
        str(tmp_path / "out"),
        "--threads",
        "1",
    ]
    argv += ["--minutes", "0.06", "--generate", "4", "--results", str(tmp_path / "r.json")]
    found = similar_en.main(argv)
    assert json.loads((tmp_path / "r.json").read_text())["study"] == "similar_en"
    assert set(found) >= {"student", "teacher", "word average", "generation", "training_seconds"}
    for name in ("student", "teacher", "word average"):
        assert -1 <= found[name]["stsb_test_spearman"] <= 1
        assert (
            0
            <= found[name]["captions"]["recall_at_1"]
            <= found[name]["captions"]["recall_at_10"]
            <= 1
        )
        assert 0 <= found[name]["qqp_test_auroc"] <= 1
    assert found["steps"] > 0
    assert list(found["generation"]) == ["top_p 0.95", "top_p 0.8"]
    for written in found["generation"].values():
        assert written["equal_to_source"] == 0
        assert written["sources"] == 4
    again = similar_en.main(argv)  # nothing is trained or taught twice
    assert again["student"] == found["student"]
    assert again["steps"] == found["steps"]
    everything = [
        json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text().splitlines()
    ]
    tests = {text for a, b, _ in sentences.stsb(tmp_path / "data", "en", "test") for text in (a, b)}
    assert not tests & {text for group in everything for text in group}  # STS-B is no training text
    capsys.readouterr()


def test_a_table_of_vectors_is_completed_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = argparse.Namespace(out=tmp_path / "out", data=made_up(tmp_path / "data"), limit=2)
    monkeypatch.setattr(Letters, "asked", asked := list[str]())
    teacher: Any = Letters()
    similar_en_texts.write_training_files(given, teacher)
    first = set(asked)
    given.limit = 0
    *_, table, _ = similar_en_texts.write_training_files(given, teacher)
    assert len(asked) == len(set(asked)) > len(first)  # no text twice
    texts, vectors = read_table(table)
    assert texts[: len(first)] == sorted(first)
    np.testing.assert_array_equal(vectors, teacher.encode(texts).astype(np.float16))


@pytest.mark.slow
def test_the_chinese_study_trains_on_the_labels_of_four_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(similar_zh, "SHAPE", {**similar_zh.SHAPE, **SMALL, "vocab_size": 300})
    monkeypatch.setattr(similar_zh, "TRAINING", {**similar_zh.TRAINING, "batch_size": 8})
    monkeypatch.setattr(similar_zh, "HELD_OUT", 5)
    argv = [
        "--data",
        str(made_up(tmp_path / "data")),
        "--out",
        str(tmp_path / "out"),
        "--threads",
        "1",
    ]
    found = similar_zh.main([*argv, "--minutes", "0.06"])
    assert list(found["spearman"]) == [
        "CoSENT, from random weights",
        "random weights",
        "characters, TF-IDF",
    ]
    for of_tests in found["spearman"].values():
        assert set(of_tests) == {"lcqmc", "bq_corpus", "stsb"}
        assert all(-100 <= value <= 100 for value in of_tests.values())
    assert found["training_pairs"] == {"atec": 16, "lcqmc": 11, "bq_corpus": 11, "stsb": 15}
    rows = {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "out").glob("*.jsonl")
    }
    assert {row[2] for row in rows["stsb"]} == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert {row[2] for name in ("atec", "lcqmc", "bq_corpus") for row in rows[name]} == {0.0, 1.0}
    assert len(rows["lcqmc_judges"]) == len(rows["bq_corpus_judges"]) == 5
    assert not any(row in rows["lcqmc"] for row in rows["lcqmc_judges"])
    assert not any(
        "\ufeff" in text for of_set in rows.values() for row in of_set for text in row[:2]
    )
    start = similar_zh.untrained(tmp_path / "out" / "finetune")
    first = start.folder.rows("validation")[0]
    assert first["step"] == 0
    judges = [
        sentences.spearman_of(start.encode, [tuple(row) for row in rows[f"{name}_judges"]])
        for name in ("lcqmc", "bq_corpus", "stsb")
    ]
    # these are the weights it started from
    assert first["spearman_of_files"] == pytest.approx(judges, abs=1e-5)
    capsys.readouterr()


def test_recall_counts_a_hit_on_any_text_of_the_own_group() -> None:
    place = {
        "a": [1.0, 0.0],
        "a1": [0.0, 1.0],
        "a2": [0.9, 0.1],
        "b": [0.1, 0.9],
        "b1": [0.8, 0.2],
        "b2": [0.5, 0.5],
    }
    found = sentences.recall(
        lambda texts: np.array([place[t] for t in texts], np.float32),
        [["a", "a1", "a2"], ["b", "b1", "b2"]],
        (1, 2),
    )
    assert found == {"recall_at_1": 0.5, "recall_at_2": 1.0}


def test_measures_of_texts_have_known_values() -> None:
    assert sentences.distinct_2(["a b c", "a b", "c"]) == 2 / 3
    assert sentences.flips("he is here", "he isn't here")
    assert sentences.flips("No one came", "they came")
    assert not sentences.flips("he can not go", "he never goes")
    assert not sentences.flips("a notable man", "a knot")
    pairs = [("a", "b", 0.0), ("a", "c", 1.0), ("b", "c", 0.0)]
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.8, 0.6]}

    def encode(texts: list[str]) -> np.ndarray:
        return np.array([vectors[t] for t in texts])

    assert sentences.auroc(encode, pairs) == 1.0
    assert sentences.spearman_of(encode, pairs) == pytest.approx(3**0.5 / 2)
    assert sentences.labelled(
        [["x", "a", "b", "1"], ["x", "a", "b", "label"], ["x", "", "b", "0"]], 1, 3
    ) == [("a", "b", 1.0)]


def test_a_missing_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stsb-en-test.csv.gz does not exist; give the folder"):
        sentences.stsb(tmp_path, "en", "test")
