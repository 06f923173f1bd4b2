"""Run folders of every kind: configuration, records, weights, states, samples and features.

The checksums of the checkpoints are removed: who damages a folder on purpose writes them anew.
"""

import contextlib
import io
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import univae
from experiments.cli.commands import main
from experiments.gans.features import open_feature_space
from experiments.reports.page import write
from experiments.sentences.teacher import read_table, write_table
from experiments.sentences.vector_file import read_matrix, unchecked_outputs, write_description
from tests.fuzz.target import Target
from tests.golden import make as golden
from univae.errors import InputError
from univae.exported import exported_files, write_export
from univae.text.tally import Tally

MEMORY = 2**31  # bytes: a training and its libraries map more than they use
DATA = Path(golden.HERE) / "data"
RUNS = ("text", "images", "columns", "gan_images", "gan_table", "similar")
TEXTS = ["a cat", "the dog sees"]
TRAINED_ON = ("optimizer.pt", "state.json", "ids.bin", "offsets.npy", "corpus.json")
SHOWN = ("metrics.jsonl", "environment.json", "DONE")
LARGEST = 2**22  # bytes of the tensors of a recipe


def make_run(name: str, folder: Path) -> Sequence[Path]:
    """Train a run for some steps, and return its files but for pages and pictures."""
    run = folder / "run"
    with golden.inside(DATA), contextlib.redirect_stderr(io.StringIO()):
        golden.run(*golden.RUNS[name], "--out", run, "--quiet")
    for path in run.rglob("checksums.json"):
        path.unlink()
    left_out = (".html", ".png", ".lock")
    files = [path for path in run.rglob("*") if path.is_file() and path.suffix not in left_out]
    return sorted(path for path in files if path.name != ".lock")


def read_run(name: str, path: Path) -> None:
    """Use a run as the file ``path`` in it asks for."""
    run = run_of(path)
    if path.name in TRAINED_ON and "features" not in path.parts:
        resume(name, run)
    elif path.name in SHOWN or path.parent.name == "samples":
        write(run)
    elif "features" in path.parts:
        open_features(run)
    else:
        use(name, run)


def run_of(path: Path) -> Path:
    """Return the run folder that a file lies in."""
    return next(folder for folder in path.parents if folder.name == "run")


def use(name: str, run: Path) -> None:
    """Open a run, and use its model."""
    trained = univae.load(run)
    repr(trained)
    if name == "similar":
        trained.encode(TEXTS)
        return
    rows = trained.sample(2, seed=0)
    if name == "text":
        trained.reconstruct(TEXTS)
    elif not name.startswith("gan"):
        trained.encode(rows)
        trained.reconstruct(rows)


def resume(name: str, run: Path) -> None:
    """Train a copy of a run two steps longer."""
    words = list(golden.RUNS[name])
    words[words.index("--steps") + 1] = "14"
    with tempfile.TemporaryDirectory() as folder, golden.inside(DATA):
        copy = Path(folder) / "run"
        shutil.copytree(run, copy)
        command([*words, "--out", str(copy), "--resume", "--quiet"])


def command(words: Sequence[str]) -> None:
    """Run a command; its exit codes 1 and 2 are refusals."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(list(words))
    except SystemExit as stop:
        if stop.code not in (0, None):
            raise InputError(f"exit code {stop.code}") from stop


def open_features(run: Path) -> None:
    """Open the features of a GAN, and use them."""
    from experiments.data.readers import read

    data = read("digits")
    space = open_feature_space(data, run / "features")
    space.map(torch.zeros(2, *data.shape))


def make_recipes(folder: Path) -> Sequence[Path]:
    """Write recipes of the files with tensors: of weights by header, of a state by shapes."""
    make_run("images", folder)
    checkpoints = folder / "run" / "checkpoints"
    weights = (checkpoints / "best" / "model.safetensors").read_bytes()
    size = int.from_bytes(weights[:8], "little")
    (folder / "weights.json").write_bytes(weights[8 : 8 + size].strip())
    state = torch.load(checkpoints / "last" / "optimizer.pt", weights_only=True)
    (folder / "state.json").write_text(json.dumps(described(state)))
    return [folder / "weights.json", folder / "state.json"]


def described(value: Any) -> Any:
    """Return a state with each tensor as its dtype and shape, and keys as pairs."""
    if isinstance(value, torch.Tensor):
        return {"tensor": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {"items": [[key, described(entry)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return [described(entry) for entry in value]
    return value


def built(value: Any) -> Any:
    """Return the state of a description."""
    if isinstance(value, dict) and "tensor" in value:
        if np.prod([float(side) for side in value["shape"]]) > LARGEST:
            raise ValueError("too large to write")
        return torch.ones(value["shape"], dtype=getattr(torch, value["tensor"]))
    if isinstance(value, dict) and "items" in value:
        return {key: built(entry) for key, entry in value["items"]}
    if isinstance(value, list):
        return [built(entry) for entry in value]
    return value


def weights_of(header: bytes) -> bytes:
    """Return a file of weights with a header, and as many bytes as its tensors say."""
    ends = []
    for entry in json.loads(header).values():
        ends.append(entry["data_offsets"][1] if "data_offsets" in entry else 0)
    size = min(max([0, *(end for end in ends if isinstance(end, int))]), LARGEST)
    numbers = struct.pack("<f", 0.01) * (size // 4 + 1)
    return struct.pack("<Q", len(header)) + header + numbers[:size]


def read_recipe(path: Path) -> None:
    """Write the file of a recipe into a copy of the run, and open or resume that."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(path.parent / "run", copy)
        try:
            write_file(path, copy)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            raise InputError("no recipe") from None
        if path.name == "weights.json":
            use("images", copy)
        else:
            resume("images", copy)


def write_file(recipe: Path, run: Path) -> None:
    """Write the file of a recipe into a run."""
    checkpoints = run / "checkpoints"
    if recipe.name == "weights.json":
        (checkpoints / "best" / "model.safetensors").write_bytes(weights_of(recipe.read_bytes()))
    else:
        state = built(json.loads(recipe.read_bytes()))
        torch.save(state, checkpoints / "last" / "optimizer.pt")


def make_export(folder: Path) -> Sequence[Path]:
    """Write the export of a golden run, under a name whose suffix says its structure."""
    run = Path(golden.HERE) / "text" / "run"
    path = folder / "run.zip"
    write_export(exported_files(run, {"best": run / "checkpoints" / "best"}), path)
    return [path]


def read_export(path: Path) -> None:
    """Use an export, which is unpacked into a cache of its own."""
    with (
        tempfile.TemporaryDirectory() as cache,
        patch.dict(os.environ, XDG_CACHE_HOME=cache),
    ):
        use("text", path)


def make_teacher(folder: Path) -> Sequence[Path]:
    """Write the table of a teacher."""
    write_table(folder / "teacher.npz", TEXTS, np.eye(2, 3, dtype=np.float32))
    return [folder / "teacher.npz"]


def make_vectors(folder: Path) -> Sequence[Path]:
    """Write a matrix of vectors with its description."""
    matrix, description = unchecked_outputs(folder / "vectors.npy")
    np.save(matrix.path, np.eye(4, 3, dtype=np.float32))
    write_description(description, matrix.path, RECIPE, Tally())
    return [matrix.path, description.path]


def read_vectors(path: Path) -> None:
    """Read a matrix, which is None where it is not as it was written."""
    matrix, description = unchecked_outputs(path.with_suffix(".npy"))
    found = read_matrix(matrix, description, RECIPE, (4, 3))
    assert found is None or (found[0] == np.eye(4, 3)).all()


RECIPE = {"texts": "a", "fingerprint": "b", "weights": "c", "precision": "float32"}
os.environ.setdefault("MPLBACKEND", "agg")
TARGETS: list[Target] = [
    *(
        Target(f"run-{name}", partial(make_run, name), partial(read_run, name), MEMORY)
        for name in RUNS
    ),
    Target("run-tensors", make_recipes, read_recipe, MEMORY),
    Target("exports", make_export, read_export, MEMORY),
    Target("teachers", make_teacher, read_table),
    Target("vectors", make_vectors, read_vectors),
]
