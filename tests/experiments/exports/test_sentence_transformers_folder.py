"""A folder for sentence-transformers has the run's vectors, trains, and needs no univae."""

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make
from scipy.stats import spearmanr

import univae
from experiments import evaluate, export
from univae.errors import InputError

pytest.importorskip("sentence_transformers")

TEXTS = ["a cat sat on the mat", "", "dogs run", "the sun is hot and the sea is wide", "a\tb"]
PAIRS = [
    ("a cat sat", "a cat", 4.5),
    ("dogs run", "a dog runs", 3.0),
    ("the sun is hot", "the sea is wide", 0.5),
    ("a man", "a woman", 2.0),
    ("the cat", "cat", 5.0),
]


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None) -> Iterator[None]:
    """Without warnings of the library, and with a cache of modules of its own."""
    dynamic_modules = pytest.importorskip("transformers.dynamic_module_utils")
    monkeypatch.setattr(dynamic_modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    torch.set_default_dtype(torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The golden sentence model, exported; its run lies beside it."""
    run = make.copy_run("similar", tmp_path)
    out = tmp_path / "encoder"
    result = export.main(export.Config(run=run, out=out, format="sentence-transformers"))
    assert result["files"] == sorted(path.name for path in out.iterdir())
    assert result["bytes_out"] == sum(path.stat().st_size for path in out.iterdir())
    return out


def load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")


def test_the_folder_has_the_vectors_of_its_run_in_batches_of_any_size(folder: Path) -> None:
    model = load(folder)
    vectors = univae.load(folder.parent / "similar", device="cpu").encode(TEXTS)
    for batch_size in (1, 2, 32):
        np.testing.assert_allclose(model.encode(TEXTS, batch_size=batch_size), vectors, atol=1e-5)
    assert model.get_sentence_embedding_dimension() == vectors.shape[1]
    assert model.similarity_fn_name == "cosine"
    assert f"vectors of {vectors.shape[1]} numbers" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_the_module_needs_no_univae_and_no_trust_where_it_is_imported(folder: Path) -> None:
    code = """
import json, sys
sys.modules["univae"] = None
folder = sys.argv[1]
sys.path.insert(0, folder)
from sentence_transformers import SentenceTransformer
from univae_encoder import UnivaeEncoder
model = SentenceTransformer(modules=[UnivaeEncoder.load(folder)], device="cpu")
model.save_pretrained(folder + "-again")
print(json.dumps(model.encode(json.loads(sys.argv[2])).tolist()))
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder), json.dumps(TEXTS)]
    output = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
    vectors = univae.load(folder.parent / "similar", device="cpu").encode(TEXTS)
    np.testing.assert_allclose(json.loads(output.splitlines()[-1]), vectors, atol=1e-5)
    again = load(folder.with_name("encoder-again"))
    np.testing.assert_allclose(again.encode(TEXTS), vectors, atol=1e-5)


@pytest.mark.parametrize("loss_name", ["MultipleNegativesRankingLoss", "CosineSimilarityLoss"])
def test_a_step_on_a_loss_of_sentence_transformers_lowers_it(loss_name: str, folder: Path) -> None:
    from sentence_transformers import losses

    model = load(folder)
    loss = getattr(losses, loss_name)(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first, second, scores = zip(*PAIRS, strict=True)
    labels = torch.tensor(scores) / 5

    def value() -> torch.Tensor:
        return loss([model.tokenize(list(first)), model.tokenize(list(second))], labels)

    before = value()
    before.backward()
    weights = dict(model.named_parameters())
    without_gradient = [name for name, weight in weights.items() if weight.grad is None]
    assert without_gradient == []
    optimizer.step()
    after = value()
    assert after < before


def test_trained_weights_are_saved_and_load_again(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    model.max_seq_length = 5
    model.save_pretrained(str(tmp_path / "again"))
    again = load(tmp_path / "again")
    assert again.max_seq_length == 5
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert {path.name for path in folder.iterdir()} <= {
        path.name for path in (tmp_path / "again").iterdir()
    }


def test_its_evaluator_finds_the_rank_correlation_of_univae_evaluate(folder: Path) -> None:
    from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

    file = folder.parent / "pairs.tsv"
    file.write_text("".join(f"{a}\t{b}\t{score}\n" for a, b, score in PAIRS), encoding="utf-8")
    config = evaluate.Config(run=folder.parent / "similar", data=str(file))
    result = evaluate.main(config)
    first, second, scores = zip(*PAIRS, strict=True)
    evaluator = EmbeddingSimilarityEvaluator(list(first), list(second), list(scores))
    model = load(folder)
    measured = evaluator(model)["spearman_cosine"]
    assert measured == pytest.approx(result["spearman"], abs=1e-4)
    cosines = (model.encode(list(first)) * model.encode(list(second))).sum(1)
    assert measured == pytest.approx(spearmanr(cosines, scores)[0], abs=1e-12)


def test_other_runs_and_existing_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    table = make.copy_run("gan_table", tmp_path)
    options: dict[str, Any] = {"out": tmp_path / "new", "format": "sentence-transformers"}
    with pytest.raises(InputError, match=r"takes the run of a sentence model; .* --format onnx"):
        export.main(export.Config(run=table, **options))
    assert not (tmp_path / "new").exists()
    options["out"] = folder
    with pytest.raises(InputError, match="it holds other files; give a new or empty folder"):
        export.main(export.Config(run=tmp_path / "similar", overwrite=True, **options))
