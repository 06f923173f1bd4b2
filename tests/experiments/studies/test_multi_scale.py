"""The study of scales: what edits keep, what intervals say, and models of a few steps."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.studies import harness, multi_scale
from experiments.studies.multi_scale import main, over_seeds
from experiments.studies.multi_scale_corpus import Corpus, lines_of, tokenizer_of
from experiments.studies.multi_scale_edits import difference, layer_sets, reconstruction
from experiments.studies.multi_scale_measures import (
    LANGUAGES,
    above_chance,
    compare,
    content_kept,
    edit_distance,
    interval,
    pattern_kept,
    verdict,
)
from experiments.studies.multi_scale_tables import _claim, draw, markdown
from univae.errors import InputError

ENGLISH = LANGUAGES["words"]
CHINESE = LANGUAGES["chars"]
SUBJECTS = ("a man", "two men", "a dog", "some boys")
VERBS = ("is running", "are eating", "sits", "jumps")
PLACES = ("in the park", "on a bench", "near the water", "with a ball", "by a red car")


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.txt"
    texts = [f"{a} {b} {c}.".capitalize() for a in SUBJECTS for b in VERBS for c in PLACES]
    path.write_text("\n".join(texts))
    return path


def test_other_content_in_the_same_sentence_keeps_the_pattern() -> None:
    kept = compare(ENGLISH, "a man with a dog", "A woman with a cat.")
    expected = {
        "content": 0.0,
        "pattern": 1.0,
        "exact": 1.0,
        "length": 1.0,
        "words_apart": 0.0,
        "changed": 1.0,
    }
    assert kept == expected


def test_other_words_around_the_same_content_keep_the_content() -> None:
    # patterns a _ with a _ and the _ and his _ : three replacements of five
    kept = compare(ENGLISH, "a man with a dog", "the man and his dog")
    assert kept["content"] == 1
    assert kept["pattern"] == pytest.approx(2 / 5)
    assert kept["exact"] == 0


def test_an_unchanged_sentence_keeps_all() -> None:
    kept = compare(ENGLISH, "two dogs play", "two dogs play")
    assert kept["changed"] == kept["words_apart"] == 0
    assert kept["content"] == kept["pattern"] == kept["exact"] == kept["length"] == 1


def test_characters_are_the_words_of_chinese() -> None:
    # _ _ 怎么 _ _ and _ _ 怎么 _ : one deletion of six; contents 花呗还款 and 花呗开
    kept = compare(CHINESE, "花呗怎么还款？", "花呗怎么开")
    assert kept["words_apart"] == 1
    assert kept["pattern"] == pytest.approx(1 - 1 / 6)
    assert kept["content"] == pytest.approx(2 * 2 / 7)


def test_shares_are_symmetric_and_those_of_nothing_are_one() -> None:
    a = Counter("aab")
    b = Counter("abbc")
    assert content_kept(a, b) == content_kept(b, a) == pytest.approx(2 * 2 / 7)
    assert content_kept(Counter(), Counter()) == pattern_kept([], []) == 1
    assert content_kept(a, Counter()) == pattern_kept(["a"], []) == 0


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("", "abc", 3), ("abc", "abc", 0), ("ab", "ba", 2), ("abcd", "bcd", 1)]
)
def test_the_edit_distance_is_symmetric(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == distance


@pytest.mark.parametrize(
    ("tokenizer", "attribute", "text", "expected"),
    [
        ("words", "plural", "Two men sit", True),
        ("words", "plural", "a man and two dogs", False),
        ("words", "progressive", "a man is slowly walking", True),
        ("words", "progressive", "a man walking", False),
        ("words", "question", "What is this?", True),
        ("words", "question", "this is what", False),
        ("chars", "question", "花呗能不能还款", True),
        ("chars", "question", "我要还款", False),
        ("chars", "how", "怎么还款", True),
    ],
)
def test_attributes(tokenizer: str, attribute: str, text: str, expected: bool) -> None:
    assert LANGUAGES[tokenizer].has(attribute, text) is expected


def test_shares_above_chance_are_zero_at_chance_and_one_at_one() -> None:
    np.testing.assert_allclose(above_chance(np.array([0.2, 0.6, 1.0]), 0.2), [0, 0.5, 1])


def test_an_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    result = interval(values)
    assert result["low"] < values.mean() == result["mean"] < result["high"]
    width = 2 * 1.96 * values.std() / 20
    assert result["high"] - result["low"] == pytest.approx(width, rel=0.15)


@pytest.mark.parametrize(
    ("content", "pattern", "contrast", "expected"),
    [
        ((0.1, 0.2), (-0.2, -0.1), (0.2, 0.4), "confirmed"),
        ((0.1, 0.2), (-0.2, 0.1), (0.1, 0.4), "neither"),
        ((-0.2, -0.1), (0.1, 0.2), (-0.4, -0.2), "refuted"),
        # the top layer changes less of both, in proportion
        ((-0.2, -0.1), (-0.2, -0.1), (-0.1, 0.1), "neither"),
        ((-0.3, -0.2), (-0.2, -0.1), (-0.2, -0.1), "refuted"),
    ],
)
def test_verdicts(
    content: tuple[float, float],
    pattern: tuple[float, float],
    contrast: tuple[float, float],
    expected: str,
) -> None:
    bounds = []
    for pair in (content, pattern, contrast):
        bounds.append(dict(zip(("low", "high"), pair, strict=True)))
    assert verdict(*bounds) == expected


def test_layers_that_change_all_and_nothing_are_no_contrast() -> None:
    ones = np.ones(50)
    kept = ("content", "pattern", "content_above_chance", "pattern_above_chance")
    result = difference(dict.fromkeys(kept, 0 * ones), dict.fromkeys(kept, ones))
    assert result["content"]["mean"] == result["pattern"]["mean"] == -1
    assert result["content_minus_pattern"]["mean"] == 0
    assert result["verdict"] == "neither"


def test_models_that_do_not_reconstruct_test_no_claim() -> None:
    texts = ["a man sits", "a dog runs in the park"]
    one = reconstruction(ENGLISH, texts, [texts[0], "a dog sits"])
    assert one["exact_by_length"] == {"3": 1, "6": 0}
    assert one["exact_short"]["mean"] == 0.5
    # a dog sits, of a dog runs in the park: two words of three and of six
    assert one["words_kept"]["mean"] == pytest.approx((1 + 2 * 2 / 9) / 2)
    assert _claim("confirmed", one) == "not tested (confirmed)"
    assert _claim("confirmed", reconstruction(ENGLISH, texts, texts)) == "confirmed"
    with pytest.raises(InputError, match="none of 1 held-out texts has 12 words or fewer"):
        reconstruction(ENGLISH, ["a " * 13], ["a"])


def test_low_layers_that_keep_content_and_top_ones_that_keep_patterns_confirm_the_claim() -> None:
    ones = np.ones(50)
    low = {"content": ones, "pattern": 0 * ones}
    top = {"content": 0 * ones, "pattern": ones}
    for kept in (low, top):
        kept |= {f"{name}_above_chance": kept[name] for name in ("content", "pattern")}
    result = difference(low, top)
    assert result["verdict"] == "confirmed"
    assert result["content_minus_pattern"] == {"mean": 2, "low": 2, "high": 2}
    assert difference(top, low)["verdict"] == "refuted"


def test_layers_are_drawn_alone_together_and_all_but_one() -> None:
    singles = [(0,), (1,), (2,), (3,)]
    assert layer_sets(4) == [*singles, (0, 1), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]


def test_numbers_of_seeds_are_spread_and_verdicts_must_agree() -> None:
    seeds = [
        {"kl": [1.0], "share": {"mean": 0.5, "low": 0.4, "high": 0.6}, "verdict": "confirmed"},
        {"kl": [3.0], "share": {"mean": 0.7, "low": 0.6, "high": 0.8}, "verdict": "refuted"},
    ]
    merged = over_seeds(seeds)
    assert merged["kl"][0]["mean"] == 2
    assert merged["share"]["mean"] == pytest.approx(0.6)
    assert merged["share"]["intervals"] == [[0.4, 0.6], [0.6, 0.8]]
    assert merged["verdict"] == "neither"
    assert over_seeds(seeds[:1])["verdict"] == "confirmed"


def test_held_out_texts_are_not_trained_on(captions: Path, tmp_path: Path) -> None:
    assert tokenizer_of(captions) == "words"
    corpus = Corpus("captions", "words", tmp_path / "corpus")
    corpus.write(captions, 30, 7, 1000)
    training, held_out = lines_of(corpus.training), lines_of(corpus.held_out)
    texts = training + held_out
    assert len(held_out) == 30
    assert len(set(texts)) == len(texts)
    assert all(text == text.lower() and len(text.split()) <= 7 for text in texts)
    with pytest.raises(InputError, match=r"captions.txt: 72 texts remain; needs 200; lower"):
        Corpus("captions", "words", tmp_path / "other").write(captions, 100, 7, 1000)


def test_chinese_is_told_by_its_letters(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("花呗怎么还款\nQQ怎么用", encoding="utf-8")
    assert tokenizer_of(path) == "chars"


def run_here(jobs: Sequence[harness.Job], at_once: int) -> harness.Results:
    """Run jobs in this process, which has torch imported."""
    assert at_once == 1
    return {job.name: harness._run(job) for job in jobs}


@pytest.mark.slow
def test_models_of_a_few_steps_are_measured(
    captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_scale, "run_all", run_here)
    options = [str(captions), "--minutes", "0.01", "--seeds", "1", "--jobs", "1", "--texts", "30"]
    options += ["--latent-layers", "2", "--priors", "learned", "--width", "16", "--code", "8"]
    options += ["--count", "1", "--out", str(tmp_path / "runs")]
    options += ["--results", str(tmp_path / "results.json"), "--figure", str(tmp_path / "a.png")]
    table = main(options)["table"]
    arm = table["captions"]["2 learned"]
    assert arm["edits"]["prior"].keys() == {"0", "1"}
    assert len(arm["kl_nats"]) == 2
    assert arm["contrast"]["prior"]["verdict"] in ("confirmed", "refuted", "neither")
    assert arm["attributes"].keys() <= {"plural", "progressive"}
    assert main(options)["table"] == table  # from the files of the finished run

    stored = json.loads((tmp_path / "results.json").read_text())["results"]
    lines = markdown(stored).splitlines()
    assert lines[0].startswith("| captions | drawn from | exact |")
    assert lines[2].endswith(f"({arm['contrast']['prior']['verdict']}) |")
    draw(stored["table"], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main([str(tmp_path / "nothing.txt"), "--out", str(tmp_path)])
    assert error.value.code == 2
    assert "nothing.txt: no such file" in capsys.readouterr().err
