"""ONNX graphs compute what the models compute, on batches of any shape."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden import make

import univae
from density.images.registry import IMAGE_MODELS
from density.likelihoods.head import Pixels
from experiments import export
from experiments.exports import graphs, onnx_folder
from gan.networks.registry import build
from univae.errors import InputError

for module in onnx_folder.MODULES:
    pytest.importorskip(module)

Runs = dict[str, tuple[Any, Path]]


@pytest.fixture(autouse=True)
def _single_precision(unchecked: None) -> None:
    torch.set_default_dtype(torch.float32)


def exported(name: str, folder: Path) -> tuple[Any, Path]:
    """Export a golden run; return it, and the folder."""
    run = make.copy_run(name, folder)
    out = folder / "graphs"
    result = export.main(export.Config(run=run, out=out, format="onnx"))
    assert result["files"] == sorted(path.name for path in out.iterdir())
    assert 0 <= result["difference"] <= onnx_folder.TOLERANCE
    return univae.load(run, device="cpu"), out


def output(file: Path, **inputs: torch.Tensor) -> np.ndarray:
    """Return what onnxruntime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    (result,) = session.run(None, arrays)
    described = json.loads((file.parent / "onnx.json").read_text())["graphs"][file.name]
    assert [entry.name for entry in session.get_inputs()] == list(described["inputs"])
    assert [entry.name for entry in session.get_outputs()] == list(described["outputs"])
    return result


def test_the_vectors_of_texts(tmp_path: Path) -> None:
    run, out = exported("similar", tmp_path)
    for texts in (["a cat"], ["dogs run", "a cat sat on the mat", ""]):
        vectors = output(out / "encoder.onnx", ids=run.text.batch(texts))
        np.testing.assert_allclose(vectors, run.encode(texts), atol=1e-5)
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    facts = json.loads((out / "onnx.json").read_text())
    assert tokenizer["kind"] == run.tokenizer.kind
    assert facts["lowercase"] == run.text.lowercase
    assert facts["max_length"] == run.model.config.max_length


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "text_vmf"])
def test_the_codes_of_texts_and_the_logits_of_their_tokens(name: str, tmp_path: Path) -> None:
    run, out = exported(name, tmp_path)
    for texts in (["a cat"], ["dogs run", "a cat sat on the mat", ""]):
        ids = run.token_ids(texts)
        codes = output(out / "encoder.onnx", ids=ids)
        np.testing.assert_allclose(codes, run.encode(texts), atol=1e-5)
        z = torch.from_numpy(codes)
        logits = torch.from_numpy(output(out / "decoder.onnx", z=z, ids=ids))
        with torch.no_grad():
            log_likelihood = run.model.likelihood(z).log_prob(ids)
        tokens = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
        torch.testing.assert_close(tokens.masked_fill(ids == 0, 0).sum(1), log_likelihood)


@pytest.mark.parametrize("name", [pytest.param("images", marks=pytest.mark.slow), "columns"])
def test_the_codes_of_rows_and_the_means_of_codes(name: str, tmp_path: Path) -> None:
    run, out = exported(name, tmp_path)
    for count in (1, 3):
        x = run.draw(count)
        z = torch.from_numpy(output(out / "encoder.onnx", x=x))
        torch.testing.assert_close(z, run.modes(x))
        mean = torch.from_numpy(output(out / "decoder.onnx", z=z))
        torch.testing.assert_close(mean, run.decode(z), rtol=1e-4, atol=1e-4)


def test_pixels_that_depend_on_each_other_have_no_decoder(tmp_path: Path) -> None:
    run = make.copy_run("neighbours", tmp_path)
    result = export.main(export.Config(run=run, out=tmp_path / "graphs", format="onnx"))
    assert result["files"] == ["encoder.onnx", "onnx.json"]
    (note,) = result["notes"]
    assert "decoder.onnx is left out" in note


@pytest.mark.parametrize("name", ["gan_images", "gan_table"])
def test_generated_rows_are_in_the_units_of_the_networks(name: str, tmp_path: Path) -> None:
    run, out = exported(name, tmp_path)
    for count in (1, 3):
        z = torch.randn(count, run.latent_width)
        x = torch.from_numpy(output(out / "generator.onnx", z=z))
        torch.testing.assert_close(x, run.generate(z), atol=1e-5, rtol=1e-4)
    facts = json.loads((out / "onnx.json").read_text())
    for fact in ("centre", "spread"):
        value = getattr(run.units, fact) if run.units is not None else None
        assert facts[fact] == (None if value is None else value.tolist())


def compared(of_kind: Any, run: SimpleNamespace, folder: Path) -> dict[str, float]:
    """Write the graphs of an untrained model, and return their differences from it."""
    differences = {}
    for graph in of_kind(run)[0]:
        path = folder / f"{graph.name}.onnx"
        with torch.no_grad(), onnx_folder._exporting():
            onnx_folder._write(graph, path)
            differences[graph.name] = onnx_folder._difference(graph, path)
    return differences


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models_of_every_class_are_graphs(name: str, tmp_path: Path) -> None:
    options = {"latents": [4]} if name == "LadderVAE" else {}
    model = IMAGE_MODELS[name].kind(Pixels((1, 8, 8)), **options).eval()
    run = SimpleNamespace(
        model=model,
        units=SimpleNamespace(centre=None),
        columns=None,
        draw=lambda count: torch.randint(0, 2, (count, 1, 8, 8)).float(),
        notes=[],
        path="run",
    )
    differences = compared(graphs._density_graphs, run, tmp_path)
    assert differences.keys() == ({"encoder"} if run.notes else {"encoder", "decoder"})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ConvGenerator", "ResNetGenerator", "AttentionGenerator"])
def test_conditional_generators_take_labels(name: str, tmp_path: Path) -> None:
    sizes = {"width": 8, "heads": 2, "layers": 1, "patch": 4}
    if name != "AttentionGenerator":
        sizes = {"width": 8}
    generator = build({"network": name, "shape": [1, 16, 16], "latent": 8, "classes": 3, **sizes})
    run = SimpleNamespace(players=SimpleNamespace(generator=generator.eval()), units=None)
    (graph,) = graphs._gan_graphs(run)[0]
    assert list(graph.inputs) == ["z", "labels"]
    assert compared(graphs._gan_graphs, run, tmp_path).keys() == {"generator"}


def test_a_graph_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make.copy_run("gan_table", tmp_path)
    forward = onnx_folder._write

    def write_another(graph: graphs.Graph, path: Path) -> None:
        generator = graph.part.model
        with torch.no_grad():
            weight = next(generator.parameters())
            weight.add_(1)
            forward(graph, path)
            weight.sub_(1)

    monkeypatch.setattr(onnx_folder, "_write", write_another)
    with pytest.raises(InputError, match=r"generator\.onnx differs from the model by"):
        export.main(export.Config(run=run, out=tmp_path / "graphs", format="onnx"))
    assert not (tmp_path / "graphs").exists()


def test_without_the_extra_one_line_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make.copy_run("gan_table", tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"needs the extra onnx: pip install 'univae\[onnx\]'"):
        export.main(export.Config(run=run, out=tmp_path / "graphs", format="onnx"))
    assert not (tmp_path / "graphs").exists()
