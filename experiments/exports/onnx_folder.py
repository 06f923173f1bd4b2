"""The format ``onnx``: a folder of ONNX graphs, and ``onnx.json``, which says what they compute.

Every graph is run by onnxruntime on batches of two shapes before the export ends, and compared with
the model.
"""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution

from experiments.exports.graphs import GRAPHS, Graph
from univae.checkpoint import JsonObject, write_json
from univae.errors import InputError
from univae.run_folder import RunFolder

__all__ = ["write_folder"]

TOKENIZER = "tokenizer.json"  # of a run of texts
MODULES = ("onnx", "onnxscript", "onnxruntime")  # of the extra
TOLERANCE = 1e-4  # of a graph's output, as a share of its largest value, or of 1 if that is more
LARGEST = 2**31 - 2**20  # bytes of an ONNX file, by its format, less those of the graph
TRACED = {"batch": 2, "tokens": 4}
TOKENS = 7  # of the texts in a check
BATCHES = (1, 5)


def write_folder(folder: RunFolder, out: Path) -> JsonObject:
    """Write the graphs of a run into an empty folder, and return the names of its files.

    The result has the largest ``difference`` from the model's outputs, too.

    Raises:
        InputError: the extra is not installed, the model cannot be a graph, or a graph computes
            something else than the model.
    """
    _require_extra()
    kind = next(kind for kind in GRAPHS if kind.opens(folder))
    run = kind.open(folder.path, "cpu")
    graphs, facts = GRAPHS[kind](run)
    folder.notes.extend(run.notes)

    differences = []
    for graph in graphs:
        path = out / f"{graph.name}.onnx"
        with torch.no_grad(), _exporting():
            _write(graph, path)
            differences.append(_difference(graph, path))
    if (folder.path / TOKENIZER).exists():
        shutil.copyfile(folder.path / TOKENIZER, out / TOKENIZER)
    description = {
        "kind": run.kind,
        **facts,
        "graphs": {f"{graph.name}.onnx": graph.to_json() for graph in graphs},
    }
    write_json(out / "onnx.json", description)
    return {
        "files": sorted(path.name for path in out.iterdir()),
        "difference": max(differences),
    }


def _write(graph: Graph, path: Path) -> None:
    """Write a graph whose free axes may have any size."""
    size = sum(weight.nbytes for weight in graph.part.state_dict().values())
    if size > LARGEST:
        raise InputError(
            f"--format onnx: an ONNX file holds 2 GB; got {size:,} bytes of weights; "
            "choose another format"
        )
    free = torch.export.Dim.DYNAMIC
    shapes = tuple(dict.fromkeys(range(len(graph.axes[name])), free) for name in graph.inputs)
    try:
        program = torch.onnx.export(
            graph.part,
            graph.example(_sizes(graph, TRACED["batch"], TRACED["tokens"])),
            input_names=list(graph.inputs),
            output_names=[graph.output],
            dynamic_shapes=(shapes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(
            f"--format onnx: {graph.name} of this model cannot be a graph ({reason})"
        ) from error
    assert program is not None
    program.save(path)


def _difference(graph: Graph, path: Path) -> float:
    """Return the largest difference of a graph from the model, on batches of two shapes.

    Raises:
        InputError: it is above :data:`TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in BATCHES:
        inputs = graph.example(_sizes(graph, batch, TOKENS))
        expected = graph.part(*inputs)
        arrays = {name: tensor.numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)}
        (output,) = session.run(None, arrays)
        largest = max(largest, _relative(torch.from_numpy(output), expected))
    if not largest <= TOLERANCE:
        raise InputError(
            f"--format onnx: {path.name} differs from the model by {largest:.1e}, which is above "
            f"{TOLERANCE}; use other versions of torch and onnxruntime"
        )
    return largest


def _relative(output: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest finite value if that is above 1.

    Infinite values must be equal.
    """
    finite = expected.isfinite()
    if not torch.equal(output[~finite], expected[~finite]):
        return float("inf")
    scale = expected[finite].abs().max().clamp_min(1)
    return float((output - expected)[finite].abs().max() / scale)


def _sizes(graph: Graph, batch: int, tokens: int) -> dict[str, int]:
    """Return the sizes of the free axes, within the graph's bound."""
    return {"batch": batch, "tokens": min(tokens, graph.longest or tokens)}


def _require_extra() -> None:
    for name in MODULES:
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(
                "--format onnx needs the extra onnx: pip install 'univae[onnx]'"
            ) from error


@contextmanager
def _exporting() -> Iterator[None]:
    """Silence the exporter, and let distributions trust their parameters.

    Its warnings and logs are about its own internals, and checks of parameters would be branches on
    values that a graph does not know.
    """
    validate = Distribution._validate_args
    disabled = logging.root.manager.disable
    Distribution.set_default_validate_args(False)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        Distribution.set_default_validate_args(validate)
