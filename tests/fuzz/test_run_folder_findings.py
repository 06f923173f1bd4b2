"""Damaged run folders that once ended in a traceback, filled the memory or gave other results."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import univae
from experiments.compare import compare
from experiments.reports.page import write
from experiments.sentences.teacher import read_table
from univae.errors import InputError
from univae.exported import exported_files, write_export

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = ["a cat", "the dog"]


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(GOLDEN / name / "run", tmp_path / name))

    return copied


def change(path: Path, **values: Any) -> None:
    """Replace values of a JSON object; the keys of inner objects follow two underscores."""
    content = json.loads(path.read_text())
    for name, value in values.items():
        *outer, last = name.split("__")
        inner = content
        for key in outer:
            inner = inner[key]
        inner[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "file", "values", "message"),
    [
        ("text", "config.json", {"width": 10**6}, "width must be at most 16384"),
        ("text", "config.json", {"layers": 10**6}, "layers must be at most 1024"),
        ("similar", "config.json", {"width": 16384, "heads": 2}, "weights of another model"),
        ("text", "config.json", {"width": 16384, "layers": 300}, "weights of another model"),
        ("images", "model.json", {"hidden": [[16384] * 60]}, "weights of another model"),
        ("images", "model.json", {"latents": [16384]}, "weights of another model"),
        ("gan_images", "model.json", {"generator__width": 4096}, "weights of another model"),
        ("columns", "data.json", {"data__centre": [1.0, 2.0]}, r"centre must be finite numbers"),
        ("columns", "data.json", {"data__centre": [1.0, 2.0, 1e999]}, r"centre must be finite"),
        ("columns", "data.json", {"data__dtype": "|O"}, r"dtype must be one of numbers"),
        ("columns", "data.json", {"data__levels": 2**40}, r"levels must be at most 256"),
        ("columns", "data.json", {"data__columns": [{}]}, r"columns must be 3"),
    ],
)
def test_values_that_the_weights_do_not_have_are_refused(
    golden: Callable[[str], Path], name: str, file: str, values: dict[str, Any], message: str
) -> None:
    run = golden(name)
    change(run / file, **values)
    with pytest.raises(InputError, match=message):
        univae.load(run).sample(1)


@pytest.mark.parametrize("columns", [["numeric"] * 3, ["numeric", "count", "numeric"]])
def test_columns_of_other_kinds_than_the_models_are_refused(
    golden: Callable[[str], Path], columns: list[str]
) -> None:
    run = golden("columns")
    schema = [{"name": f"c{i}", "kind": kind, "categories": []} for i, kind in enumerate(columns)]
    change(run / "data.json", data__columns=schema)
    with pytest.raises(InputError, match=r"kinds and categories of the model's"):
        univae.load(run).sample(1)


def test_units_of_a_gan_that_do_not_fit_its_rows_are_refused(
    golden: Callable[[str], Path],
) -> None:
    run = golden("gan_table")
    units = {"levels": None, "centre": [0.0] * 13, "spread": [1.0] * 26, "dtype": "float64"}
    (run / "data.json").write_text(json.dumps({"data": units}))
    with pytest.raises(InputError, match=r"data\.json: spread must be finite numbers"):
        univae.load(run).sample(2)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["text", "images", "gan_table", "similar"])
def test_weights_that_are_not_finite_are_named(
    golden: Callable[[str], Path], name: str, number: float
) -> None:
    run = golden(name)
    path = run / "checkpoints" / "best" / "model.safetensors"
    weights = load_file(path)
    weight = next(name for name, x in weights.items() if x.is_floating_point() and x.numel())
    weights[weight].view(-1)[-1] = number
    save_file(weights, path)
    with pytest.raises(
        InputError, match=rf"safetensors: {weight} holds NaN or infinity; it may be"
    ):
        univae.load(run)


def test_finite_weights_that_give_no_gaussian_are_said_to(golden: Callable[[str], Path]) -> None:
    run = golden("images")
    path = run / "checkpoints" / "best" / "model.safetensors"
    save_file({name: torch.zeros_like(x) for name, x in load_file(path).items()}, path)
    images = np.load(GOLDEN / "data" / "images.npy")[:2]
    with pytest.raises(InputError, match=r"Gaussian of a latent must have finite means"):
        univae.load(run).encode(images)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "[" * 100_000,
        '{"kind": "validation"}',
        '{"kind": 1, "step": 1}',
        '{"kind": "validation", "step": {}}',
    ],
)
def test_a_damaged_row_of_metrics_is_named_by_its_line(
    golden: Callable[[str], Path], tmp_path: Path, line: str
) -> None:
    run = golden("text")
    metrics = run / "metrics.jsonl"
    metrics.write_text(f'{{"kind": "train", "step": 1}}\n{line}\n')
    message = r"metrics\.jsonl, line 2: must be a JSON object with a kind and a step"
    with pytest.raises(InputError, match=message):
        write(run)
    with pytest.raises(InputError, match=message):
        compare([run], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_an_export_whose_entries_lie_elsewhere_is_damaged(
    golden: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = golden("text")
    path = tmp_path / "text.univae"
    write_export(exported_files(run, {"best": run / "checkpoints" / "best"}), path)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # of the first file in the directory
    content[entry + 42 : entry + 46] = (2**32 - 9).to_bytes(4, "little")  # where it begins
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"the file is damaged .*; export the run again"):
        univae.load(path)
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_teacher_of_other_files_than_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("texts", b"a")
        archive.writestr("vectors", b"b")
    with pytest.raises(InputError, match=r"is no table \(.*texts.npy"):
        read_table(path)


@pytest.mark.parametrize("dtype", ["<U12", "<U0"])
def test_a_teacher_whose_texts_are_said_to_be_many_is_refused(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "teacher.npz"
    header = io.BytesIO()
    content = {"descr": dtype, "fortran_order": False, "shape": (10**6, 28, 28)}
    np.lib.format.write_array_header_1_0(header, content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("texts.npy", header.getvalue())
        archive.writestr("vectors.npy", b"")
    with pytest.raises(InputError, match=r"'texts' should hold|it holds empty strings"):
        read_table(path)


def test_values_of_metrics_that_cannot_be_drawn_are_damage(golden: Callable[[str], Path]) -> None:
    run = golden("text")
    row = {"kind": "validation", "step": 1, "kl_nats": 3, "selection": 1.0}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"text: values that cannot be read .*; the run folder is"):
        write(run)
