"""MTEB on a local file of labelled pairs finds the rank correlation of ``univae evaluate``."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from golden import make

from experiments import evaluate
from experiments.benchmarks import mteb_sts
from univae.errors import InputError

pytest.importorskip("sentence_transformers")
pytest.importorskip("mteb")


def test_a_file_of_pairs_is_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    dynamic_modules = pytest.importorskip("transformers.dynamic_module_utils")
    monkeypatch.setattr(dynamic_modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    torch.set_default_dtype(torch.float32)
    run = make.copy_run("similar", tmp_path)
    file = tmp_path / "pairs.tsv"
    rows = ["a cat sat\ta cat\t4.5", "dogs run\ta dog runs\t3.0", "the sun\tthe sea\t0.5"]
    rows += ["a man\ta woman\t2.0", "the cat\tcat\t5.0"]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (row,) = mteb_sts.measure(run, files=[file])
    expected = evaluate.main(evaluate.Config(run=run, data=str(file)))["spearman"]
    assert row["task"] == "pairs"
    assert row["cosine_spearman"] == pytest.approx(expected, abs=1e-4)


def test_pairs_without_labels_are_no_task(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("a cat\tcat\na dog\tdog\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"--files .*pairs\.tsv: needs labelled pairs"):
        mteb_sts.file_task(file)
