"""Runs of ``univae stretch`` are exported as they read long texts, or refused."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import make
from safetensors.torch import load_file, save_file

import univae
from experiments import export, stretch
from experiments.exports import onnx_folder
from univae.attention import stretched
from univae.errors import InputError
from univae.huggingface import require_roformer
from univae.sentence.model import RoFormerSimConfig
from univae.text.tokenizers import train_tokenizer

LENGTH = 320
TRAINED = 16  # most tokens of a text of the golden sentence model
# longer than the texts of training, so that scores grow
TEXTS = [" ".join(["the cat sees a ball"] * 14) + " and an old dog", "a cat sat on the mat"]


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None) -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def exported(name: str, folder: Path, format_name: str) -> tuple[Any, Path]:
    """Stretch a golden run and export it; return the stretched run, and what was written."""
    longer = folder / "longer"
    run = make.copy_run(name, folder)
    enlarge(run / "checkpoints" / "best" / "model.safetensors")
    stretch.main(stretch.Config(run=run, out=longer, length=LENGTH))
    out = folder / "exported"
    export.main(export.Config(run=longer, out=out, format=format_name))
    stretched_run = univae.load(longer, device="cpu")
    require_sensitive(stretched_run)
    return stretched_run, out


def enlarge(weights_file: Path) -> None:
    """Draw weights anew, so large that attention depends on positions and scales."""
    generator = torch.Generator().manual_seed(0)
    weights = load_file(weights_file)
    for name, weight in weights.items():
        if weight.ndim > 1:
            weights[name] = torch.randn(weight.shape, generator=generator) / 2
    save_file(weights, weights_file)


def require_sensitive(run: Any) -> None:
    """Check that the first text tells the model from one whose scale or positions are as before."""
    model = run.model
    assert model.config.scale == "log_n_clip"
    vectors = run.encode(TEXTS)
    for changed in ({"scale": "sqrt"}, {"rotary_base": 10_000.0}):
        run.model = type(model)(replace(model.config, **changed)).eval()
        run.model.load_state_dict(model.state_dict())
        assert np.abs(run.encode(TEXTS) - vectors)[0].max() > 1e-3
    run.model = model


def test_a_module_of_sentence_transformers_has_the_vectors_of_long_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("sentence_transformers")
    dynamic_modules = pytest.importorskip("transformers.dynamic_module_utils")
    monkeypatch.setattr(dynamic_modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    run, out = exported("similar", tmp_path, "sentence-transformers")
    model = library.SentenceTransformer(str(out), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), run.encode(TEXTS), atol=1e-5)


def test_a_file_of_univae_has_the_vectors_of_long_texts(tmp_path: Path) -> None:
    run, out = exported("similar", tmp_path, "univae")
    opened: Any = univae.load(out, device="cpu")
    assert (opened.encode(TEXTS) == run.encode(TEXTS)).all()


def in_onnx(file: Path, **inputs: torch.Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return result


@pytest.mark.slow
def test_a_graph_has_the_vectors_of_long_texts(tmp_path: Path) -> None:
    for module in onnx_folder.MODULES:
        pytest.importorskip(module)
    run, out = exported("similar", tmp_path, "onnx")
    vectors = in_onnx(out / "encoder.onnx", ids=run.text.batch(TEXTS))
    np.testing.assert_allclose(vectors, run.encode(TEXTS), atol=1e-5)


@pytest.mark.slow
def test_graphs_have_the_codes_and_logits_of_long_texts(tmp_path: Path) -> None:
    for module in onnx_folder.MODULES:
        pytest.importorskip(module)
    run, out = exported("text", tmp_path, "onnx")
    ids = run.token_ids(TEXTS)
    codes = in_onnx(out / "encoder.onnx", ids=ids)
    np.testing.assert_allclose(codes, run.encode(TEXTS), atol=1e-5)
    z = torch.from_numpy(codes)
    with torch.no_grad():
        logits = run.model.likelihood(z).logits(ids).numpy()
    np.testing.assert_allclose(in_onnx(out / "decoder.onnx", z=z, ids=ids), logits, atol=1e-4)


def test_no_roformer_expresses_a_stretched_model() -> None:
    tokenizer = train_tokenizer("wordpiece", TEXTS, 60)
    config = RoFormerSimConfig(
        tokenizer.vocab_size, width=16, heads=2, layers=1, norm="post", max_length=TRAINED
    )
    require_roformer(config, tokenizer)
    longer = stretched(config, LENGTH)
    with pytest.raises(InputError, match=r"has scale=sqrt; the model has scale=log_n_clip; use --"):
        require_roformer(longer, tokenizer)
    with pytest.raises(InputError, match=r"has rotary_base=10000.0; the model has rotary_base=\d"):
        require_roformer(replace(longer, scale="sqrt"), tokenizer)
