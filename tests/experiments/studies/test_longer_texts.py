"""The study of longer texts: documents, joined pairs, and the models that read them."""

import argparse
from pathlib import Path

import pytest
import torch

from experiments.studies import longer_texts
from experiments.studies.longer_texts import long_pairs, longer, prepare_groups, prepare_texts
from experiments.studies.sentences import write_groups
from univae import UniVAEConfig


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def test_the_three_ways_change_positions_then_scores() -> None:
    config = UniVAEConfig(20, width=16, heads=2, layers=2, max_length=8)
    plain, ntk, stretched = (longer(config, 32, way) for way in longer_texts.WAYS)
    assert plain.rotary_base == config.rotary_base < ntk.rotary_base == stretched.rotary_base
    assert (plain.scale, ntk.scale, stretched.scale) == ("sqrt", "sqrt", "log_n_clip")
    assert {plain.max_length, ntk.max_length, stretched.max_length} == {32}
    assert longer(config, 8, "stretched") == config


def test_long_pairs_join_the_same_groups_in_the_same_order() -> None:
    groups = [["a", "A", "x"], ["b", "B", "y"], ["c", "C", "z"], ["d", "D", "w"], ["e", "E", "v"]]
    assert long_pairs(groups, 2) == [("a b", "A B"), ("c d", "C D")]


def test_training_documents_have_whole_sentences_and_no_held_out_one(tmp_path: Path) -> None:
    path = tmp_path / "some sentences.txt"
    sentences = [f"sentence {i} " + "word " * (i % 9) for i in range(100)]
    path.write_text("\n".join(sentences), encoding="utf-8")
    training, held_out = prepare_texts(path, tmp_path)
    documents = training.read_text(encoding="utf-8").splitlines()
    words = [len(document.split()) for document in documents]
    assert max(words) <= 48
    assert len(documents) < 20
    assert len(held_out) == 5
    text = " ".join(documents)
    assert "sentence 94 " in text
    assert "sentence 95 " not in text


@pytest.mark.slow
def test_a_small_study_has_every_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longer_texts, "LENGTHS", (64, 128))
    monkeypatch.setattr(longer_texts, "JOINED", (1, 4))
    monkeypatch.setattr(longer_texts, "TOKENS", 256)
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sees the dog\na bird is blue\n" * 2000, encoding="utf-8")
    groups = [[f"the cat {i}", f"a cat {i}"] for i in range(40)]
    options = argparse.Namespace(
        texts=texts,
        groups=write_groups(tmp_path / "groups.jsonl", groups),
        out=tmp_path / "out",
        minutes=0.05,
        seeds=1,
        at_once=1,
    )
    assert len(prepare_groups(options.groups, tmp_path)[1]) == 20
    results = longer_texts.main(options)
    assert results["failed"] == {}
    assert results["nats_per_token"]["stretched"].keys() == {"64", "128"}
    at_64 = {way: cells["64"]["mean"] for way, cells in results["nats_per_token"].items()}
    assert len(set(at_64.values())) == 1  # no text is longer than in training
    assert results["recall_at_1"].keys() == {"cut", "plain", "ntk", "stretched"}
    table = longer_texts.markdown(results)
    assert table.count("\n| stretched |") == 2
