"""Metrics of sentence models on pairs: closed forms, independent versions, and a trained run."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from experiments import train_similar
from experiments.evaluation.open_run import open_run
from experiments.sentences.pair_evaluation import (
    area_under_roc,
    best_threshold,
    evaluate_pairs,
    pair_ranks,
    roc_standard_error,
    spearman_standard_error,
)
from univae.errors import InputError
from univae.sentence.trained import TrainedSimilar

DRAW = np.random.default_rng(0)
TEXTS = [f"{a} {b} {c}" for a in ("a man", "a boy") for b in ("sees", "has") for c in "xyzuvw"]


def test_the_area_is_that_of_scikit_learn_ties_included() -> None:
    for _ in range(20):
        cosines = DRAW.integers(0, 6, 30) / 6
        positive = DRAW.random(30) < 0.4
        positive[:2] = True, False
        assert area_under_roc(cosines, positive) == pytest.approx(roc_auc_score(positive, cosines))
    assert area_under_roc(np.ones(4), np.array([True, False, True, False])) == 0.5


def test_the_best_threshold_beats_or_equals_every_other() -> None:
    for _ in range(30):
        cosines = DRAW.integers(0, 5, 12) / 5
        positive = DRAW.random(12) < 0.5
        accuracy, threshold = best_threshold(cosines, positive)
        rules = [-1.0, *(np.unique(cosines) + 1e-6), 2.0]
        assert accuracy == max(((cosines >= rule) == positive).mean() for rule in rules)
        assert ((cosines >= threshold) == positive).mean() == accuracy
    assert best_threshold(np.arange(3.0), np.zeros(3, bool)) == (1.0, math.inf)
    assert best_threshold(np.arange(3.0), np.ones(3, bool)) == (1.0, 0.0)


def test_standard_errors_are_the_spread_over_repeated_samples() -> None:
    spearman, area = [], []
    for _ in range(400):
        x = DRAW.standard_normal(150)
        y = 0.6 * x + 0.8 * DRAW.standard_normal(150)
        spearman.append(spearmanr(x, y).statistic)
        area.append(area_under_roc(np.concatenate((x[:70] + 1, x[70:])), np.arange(150) < 70))
    expected = spearman_standard_error(float(np.mean(spearman)), 150)
    assert np.std(spearman) == pytest.approx(expected, rel=0.15)
    assert np.std(area) == pytest.approx(roc_standard_error(float(np.mean(area)), 70, 80), rel=0.15)
    assert spearman_standard_error(0.5, 3) is None
    assert roc_standard_error(1.0, 5, 5) == 0


def test_ranks_count_distinct_second_texts_and_ties_against_the_partner() -> None:
    first = np.eye(3)
    second = np.array([[1.0, 0, 0], [1, 0.5, 0], [0, 0, 1]])
    assert pair_ranks(first, second, np.array([0, 1, 2])).tolist() == [1, 0, 0]
    same = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1]])
    assert pair_ranks(first, same, np.array([7, 7, 2])).tolist() == [0, 1, 0]
    many = DRAW.integers(-3, 4, (1500, 4)).astype(np.float64)  # whole numbers: exact products
    plain = [int((many @ row >= row @ row).sum()) - 1 for row in many]
    assert pair_ranks(many, many, np.arange(1500)).tolist() == plain


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedSimilar:
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("evaluation")
    pairs = folder / "pairs.tsv"
    pairs.write_text("".join(f"{text}\t{text} now\n" for text in TEXTS))
    shape = {"width": 16, "heads": 2, "layers": 1, "max_length": 8, "tokenizer": "words"}
    options = {"steps": 2, "batch_size": 6, "held_out": 0.2, "threads": 1, "vocab_size": 60}
    train_similar.train(
        train_similar.Config.of(pairs=(pairs,), out=folder / "run", **shape, **options)
    )
    return open_run(TrainedSimilar, folder / "run", "cpu")


def test_graded_labels_give_the_rank_correlation(run: TrainedSimilar, tmp_path: Path) -> None:
    path = tmp_path / "graded.csv"
    other = TEXTS[::-1]
    scores = DRAW.random(len(TEXTS)).round(3)
    lines = [f"{a},{b},{score}" for a, b, score in zip(TEXTS, other, scores, strict=True)]
    path.write_text("sentence1,sentence2,score\n" + "\n".join(lines) + "\n")
    result = evaluate_pairs(run, str(path))
    cosines = (run.encode(TEXTS) * run.encode(other)).sum(-1)
    assert result["spearman"] == pytest.approx(spearmanr(cosines, scores).statistic)
    assert result["pairs"] == 24
    assert 0 < result["spearman_standard_error"] < 0.3
    assert "auroc" not in result
    assert result["notes"] == [f"{path}: the first line is a header: sentence1, sentence2, score"]


def test_a_limit_is_the_evaluation_of_the_first_pairs(run: TrainedSimilar, tmp_path: Path) -> None:
    rows = [f"{a}\t{b}\t{i % 6}\n" for i, (a, b) in enumerate(zip(TEXTS, TEXTS[::-1], strict=True))]
    whole = tmp_path / "whole.tsv"
    whole.write_text("".join(rows))
    first = tmp_path / "first.tsv"
    first.write_text("".join(rows[:10]))
    limited = evaluate_pairs(run, str(whole), limit=10)
    alone = evaluate_pairs(run, str(first))
    assert limited["pairs"] == 10
    assert limited["spearman"] == pytest.approx(alone["spearman"])


def test_two_labels_give_auroc_and_accuracy_by_any_columns(
    run: TrainedSimilar, tmp_path: Path
) -> None:
    path = tmp_path / "binary.tsv"
    other = TEXTS[1:] + TEXTS[:1]
    labels = [i % 2 for i in range(len(TEXTS))]
    rows = zip(labels, TEXTS, other, strict=True)
    path.write_text("".join(f"{label}\tx {a}\t{a}\t{b}\n" for label, a, b in rows))
    result = evaluate_pairs(run, str(path), ("3", "4", "1"))
    cosines = (run.encode(TEXTS) * run.encode(other)).sum(-1)
    assert result["auroc"] == pytest.approx(roc_auc_score(labels, cosines))
    called = cosines >= result["best_threshold"]
    assert result["best_accuracy"] == (called == np.array(labels, bool)).mean()
    assert result["positives"] == 12
    path.write_text("".join(f"{a}\t{a}\t1\n" for a in TEXTS))
    alike = evaluate_pairs(run, str(path))
    assert (alike["spearman"], "auroc" in alike) == (None, False)
    assert "all equal" in alike["spearman_undefined"]


def test_pairs_without_labels_give_recall_and_cuts_are_counted(
    run: TrainedSimilar, tmp_path: Path
) -> None:
    path = tmp_path / "groups.jsonl"
    long = "a man sees " * 8
    path.write_text(f'["{TEXTS[0]}", "{TEXTS[1]}", "{TEXTS[0]} now"]\n["{long}", "{TEXTS[2]}"]\n')
    result = evaluate_pairs(run, str(path))
    assert (result["pairs"], result["candidates"], result["cut"]) == (2, 2, 1)
    vectors = run.encode([TEXTS[0], long, f"{TEXTS[0]} now", TEXTS[2]])
    cosines = vectors[:2] @ vectors[2:].T
    recall = ((cosines[0, 0] > cosines[0, 1]) + (cosines[1, 1] > cosines[1, 0])) / 2
    assert result["recall_at_1"] == recall
    assert result["recall_at_10"] == 1
    assert result["recall_at_1_standard_error"] == math.sqrt(recall * (1 - recall) / 2)
    cut, groups = result["notes"]
    assert "1 of 4 texts (25%) has more than max_length=8 tokens" in cut
    assert "1 of 2 groups have more than two texts; the first and the last" in groups


@pytest.mark.parametrize(
    ("content", "message"),
    [("a\tb\n", "2 pairs are needed; got 1"), ("a\nb\n", "a line holds one text; a pair has two")],
)
def test_what_is_no_set_of_pairs_is_refused(
    run: TrainedSimilar, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "few.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        evaluate_pairs(run, str(path))
