"""The studies of sentence models, end to end on a few made-up lines; and what they measure with."""

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from experiments.sentences.teacher import read_table
from experiments.studies import sentences, similar_en, similar_zh
from experiments.studies.harness import run_here
from experiments.studies.negation import flips, has_negation
from experiments.studies.similar_en_table import BARS, markdown, summary
from experiments.studies.similar_en_texts import (
    Negations,
    contrasts_of,
    with_negations,
    write_text_files,
    write_vectors,
)
from univae.checkpoint import read_json
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
    monkeypatch.setattr(similar_en, "run_all", lambda jobs, at_once: run_here(jobs))
    monkeypatch.setattr(similar_en, "SHAPE", {**similar_en.SHAPE, **SMALL, "vocab_size": 300})
    monkeypatch.setattr(similar_en, "TRAINING", {**similar_en.TRAINING, "held_out": 0.2})
    out = tmp_path / "out"
    argv = ["--data", str(made_up(tmp_path / "data")), "--out", str(out), "--arms", "full", "plain"]
    argv += ["--minutes", "0.03", "--generate", "4", "--results", str(tmp_path / "r.json")]
    argv += ["--set", "validate_every=5", "--figure", str(tmp_path / "f.png")]
    result = similar_en.main(argv)
    assert json.loads((tmp_path / "r.json").read_text())["study"] == "similar_en"
    assert (tmp_path / "f.png").stat().st_size > 0
    assert result["failed"] == {}
    assert list(result["table"]) == ["plain", "full"]
    for row in [*result["runs"].values(), *result["baselines"].values()]:
        vectors = row.get("vectors", row)
        assert -1 <= vectors["stsb_dev_spearman"] <= 1
        assert -1 <= vectors["stsb_test_spearman"] <= 1
        assert 0 <= vectors["recall_at_1"] <= vectors["recall_at_10"] <= 1
        assert 0 <= vectors["qqp_test_auroc"] <= 1
    for run in result["runs"].values():
        assert run["steps"] > 0
        assert run["course"]
        assert list(run["generation"]) == ["top_p 0.95", "top_p 0.8"]
        for written in run["generation"].values():
            assert written["equal_to_source"] == 0
            assert written["sources"] == 4
    assert set(result["bars_met_by_full"]) == set(BARS)

    configs = {arm: read_json(out / f"{arm}-0" / "config.json") for arm in ("full", "plain")}
    assert configs["full"]["token_start"] == "teacher"
    assert configs["full"]["distil_target"] == "vectors"
    assert len(configs["full"]["contrasts"]) == 1
    assert configs["plain"]["contrasts"] == []
    notes = read_json(out / "full-0" / "DONE").get("notes", [])
    assert not any("the teacher lacks" in note for note in notes)  # the table has all tokens

    again = similar_en.main(argv)  # nothing is trained, taught or measured twice
    assert again["runs"] == result["runs"]
    texts, _ = read_table(out / "teacher.npz")
    tests = {text for a, b, _ in sentences.stsb(tmp_path / "data", "en", "test") for text in (a, b)}
    assert not tests & set(texts)  # STS-B is no training text
    capsys.readouterr()


def test_a_table_of_vectors_is_completed_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Letters, "asked", asked := list[str]())
    teacher: Any = Letters()
    table = tmp_path / "teacher.npz"
    write_vectors(table, ["a b", "c", ""], teacher)
    assert asked == ["a b", "c"]
    write_vectors(table, ["c", "d ", "a b"], teacher)
    assert asked == ["a b", "c", "d"]  # no text twice
    texts, vectors = read_table(table)
    assert texts == asked
    np.testing.assert_array_equal(vectors, teacher.encode(texts).astype(np.float16))


def test_groups_agree_on_their_negations() -> None:
    groups = [
        ["Is it so?", "Isn't it so?", "Can it be so?"],
        ["He is not here.", "He never is."],
        ["a dog", "two dogs"],
        ["I was ill.", "We were ill."],
    ]
    texts = with_negations(groups, Negations(repeats=3, negated=5))
    assert texts.count(["He is not here.", "He never is."]) == 3
    assert texts.count(["Isn't it so?"]) == 1  # alone, and not to be written
    assert ["Is it so?", "Can it be so?"] in texts
    assert ["Isn't it so?", "Can't it be so?"] in texts
    assert ["I was not ill.", "We were not ill."] in texts
    assert not any(flips(a, b) for group in texts for a in group for b in group)
    assert len(with_negations(groups, Negations(repeats=1, negated=0))) == 5

    pairs = contrasts_of([text for group in groups for text in group], 4)
    assert len(pairs) == 4
    assert pairs[:3] == [
        ["Isn't it so?", "Is it so?"],
        ["He is not here.", "He is here."],
        ["He never is.", "He is."],
    ]
    assert all(flips(*pair) for pair in pairs)


def test_the_files_of_a_training_hold_its_texts(tmp_path: Path) -> None:
    data = made_up(tmp_path / "data")
    zipped(data / "ptb" / "ptb.train.txt.gz", [" mr. <unk> left ", " prices fell ", " N years "])
    plain = write_text_files(tmp_path / "plain", data, ["cat"], treebank=True)
    groups = [json.loads(line) for line in plain.pairs.read_text().splitlines()]
    assert plain.contrasts is None
    assert ["cat"] in groups
    assert ["prices fell"] in groups
    assert not any("<unk>" in text or "years" in text for group in groups for text in group)
    assert list(plain.texts) == list(dict.fromkeys(text for group in groups for text in group))
    judges = [json.loads(line) for line in plain.validation.read_text().splitlines()]
    assert judges == [list(row) for row in sentences.stsb(data, "en", "dev")]

    full = write_text_files(tmp_path / "full", data, [], limit=3, negations=Negations())
    assert full.contrasts is not None
    pairs = [json.loads(line) for line in full.contrasts.read_text().splitlines()]
    assert pairs
    assert {text for pair in pairs for text in pair} <= set(full.texts)
    assert any(has_negation(text) for text in full.texts)


def test_a_table_has_means_over_seeds_and_the_worse_negations() -> None:
    def run(spearman: float, flips: float) -> dict[str, Any]:
        vectors = {"stsb_dev_spearman": 0.9, "stsb_test_spearman": spearman, "recall_at_1": 0.5}
        texts = {"distinct_2": 0.4, "teacher_cosine_top_5": 0.7}
        return {
            "vectors": {**vectors, "recall_at_10": 0.75, "qqp_test_auroc": 0.8},
            "generation": {
                "top_p 0.95": {**texts, "negation_flips_negated_questions": flips},
                "top_p 0.8": {**texts, "negation_flips_negated_questions": 0.1},
            },
            "parameters": 5_000_000,
            "steps": 1000,
            "processor_minutes": 55.0,
            "course": [{"minutes": 1.0, "spearman": 0.5}],
        }

    results = summary(
        {"full-0": run(0.77, 0.3), "full-1": run(0.81, 0.2)},
        {"teacher": {"stsb_test_spearman": 0.82, "recall_at_1": 0.7, "recall_at_10": 0.9}},
    )
    assert results["table"]["full"]["stsb_test_spearman"]["mean"] == pytest.approx(0.79)
    assert results["bars_met_by_full"] == {
        "stsb_test_spearman": True,
        "negation_flips": False,
        "parameters": True,
        "processor_minutes": True,
    }
    full, teacher = markdown(results).splitlines()[2:]
    assert "| 0.790 ± 0.028 | 0.500 / 0.750 | 0.800 | 25.0% ± 7.1% |" in full
    assert "| 5,000,000 | 1,000 | 55.0 |" in full
    assert "| 0.820 | 0.700 / 0.900 |  |  |" in teacher


def test_a_setting_must_be_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--data", "data", "--out", "out", "--set"]
    options = similar_en.parse([*argv, "batch_size=64", "pooling=first"])
    assert options.set == {"batch_size": 64, "pooling": "first"}
    assert options.vectors == Path("out/teacher.npz")
    with pytest.raises(SystemExit) as stop:
        similar_en.parse([*argv, "nope=1"])
    assert stop.value.code == 2
    assert "--set takes OPTION=VALUE with options of train-similar" in capsys.readouterr().err


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
