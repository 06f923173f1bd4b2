"""The study of lengths: its scales, its masks and its measured entropies are what they are said."""

import argparse
import math
from pathlib import Path

import pytest
import torch

from experiments.studies import lengths
from experiments.studies.lengths import MASK, Corpus, Model, Shape, main, measure, targets, train

SMALL = Shape(width=16, layers=2, heads=2)


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a text.txt"
    path.write_text("\n".join(["the cat sees the dog", "a bird is blue"] * 900))
    return path


@pytest.mark.parametrize(
    ("arm", "at_16", "at_1024"),
    [
        ("sqrt", 1.0, 1.0),
        ("log_n", 2 / 3, 5 / 3),
        ("sqrt_log_n", math.sqrt(2 / 3), math.sqrt(5 / 3)),
        ("clip", 1.0, 5 / 3),
        ("learned", 1.0, 1.0),
    ],
)
def test_every_factor_is_one_at_the_length_of_training(
    arm: str, at_16: float, at_1024: float
) -> None:
    model = Model(10, arm, causal=False, shape=SMALL)
    for length, expected in ((16, at_16), (64, 1.0), (1024, at_1024)):
        factor = model.factor(0, length)
        torch.testing.assert_close(factor, torch.full((2, length), expected))


def test_the_rows_of_a_causal_model_count_the_keys_that_they_see() -> None:
    factor = Model(10, "log_n", causal=True, shape=SMALL).factor(1, 64)
    torch.testing.assert_close(factor[0, [0, 7, 63]], torch.tensor([0.0, 0.5, 1.0]))


def test_the_entropy_of_equal_scores_is_the_logarithm_of_the_keys() -> None:
    zeros = torch.zeros(2, 3, 40, 4)
    entropy = lengths._row_entropy(zeros, zeros, causal=False)
    torch.testing.assert_close(entropy, torch.full((3,), math.log(40)))
    rows = torch.arange(40 - lengths.ROWS, 40) + 1.0
    causal = lengths._row_entropy(zeros, zeros, causal=True)
    torch.testing.assert_close(causal, rows.log().mean().expand(3))


def test_a_masked_model_predicts_what_is_hidden_and_a_causal_one_what_follows() -> None:
    ids = torch.arange(2, 2002).view(2, 1000)
    generator = torch.Generator().manual_seed(0)
    inputs, wanted, at = targets(ids, generator, causal=False)
    assert torch.equal(wanted, ids)
    assert torch.equal(inputs, torch.where(at, MASK, ids))
    assert 0.12 < at.double().mean() < 0.18

    inputs, wanted, at = targets(ids, generator, causal=True)
    assert torch.equal(inputs + 1, wanted)
    assert at.all()


def test_a_stretched_base_leaves_the_length_of_training_as_it_is(text: Path) -> None:
    corpus = Corpus.read(text)
    model, steps = train(corpus, "sqrt", 0, 0.01, causal=False)
    assert steps
    for length, same in ((64, True), (128, False)):
        plain = measure(model, corpus, length, ntk=False)
        stretched = measure(model, corpus, length, ntk=True)
        assert (plain == stretched) is same
        assert len(plain["row_entropy_nats"]) == len(model.blocks)


def test_every_arm_is_in_the_table_with_its_spread(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "LENGTHS", (64, 128))
    monkeypatch.setattr(lengths, "TOKENS", 512)
    monkeypatch.setattr(lengths, "Shape", lambda: SMALL)
    options = argparse.Namespace(
        texts=[text], tasks=["causal"], minutes=0.001, seeds=2, out=tmp_path / "runs"
    )
    table = main(options)["table"]["a text causal"]
    arms = {"sqrt", "log_n", "sqrt_log_n", "learned", "clip"}
    assert table.keys() == arms | {f"{arm} ntk" for arm in arms}
    cell = table["log_n"]["128"]["accuracy"]
    assert 0 <= cell["mean"] <= 1
    assert cell["sd"] >= 0
    assert main(options)["table"]["a text causal"] == table  # from the files that are kept

    lines = lengths.markdown({"table": {"a text causal": table}}).splitlines()
    assert lines[0] == "| a text causal | 64 | 128 |"
    mean = 100 * table["sqrt"]["64"]["accuracy"]["mean"]
    assert lines[2].startswith(f"| sqrt | {mean:.1f} ± ")
    lengths.draw({"a text causal": table}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
