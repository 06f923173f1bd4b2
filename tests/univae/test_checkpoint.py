"""Weights and states come back exactly, others are refused, and no file is half written."""

import json
import math
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from univae import checkpoint
from univae.errors import InputError


class Tied(nn.Module):
    view: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5)
        self.out.weight = self.embedding.weight
        self.register_buffer("view", torch.arange(12.0).view(3, 4).T)  # not contiguous


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    a, b = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    a(torch.randn(8, 3))  # BatchNorm holds an integer and two float buffers
    checkpoint.save_weights(a, tmp_path / "w.safetensors")
    checkpoint.load_weights(b, tmp_path / "w.safetensors")
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y)
        assert x.dtype == y.dtype


def test_tied_weights_and_views_survive_and_stay_tied(tmp_path: Path) -> None:
    a = Tied()
    b = Tied()
    checkpoint.save_weights(a, tmp_path / "w.safetensors")
    b.view.zero_()
    checkpoint.load_weights(b, tmp_path / "w.safetensors")
    assert torch.equal(a.out.weight, b.embedding.weight)
    assert b.out.weight is b.embedding.weight
    assert torch.equal(a.view, b.view)


def test_a_file_that_contradicts_a_tie_is_refused(tmp_path: Path) -> None:
    untied = Tied()
    untied.out.weight = nn.Parameter(torch.zeros(5, 3))
    checkpoint.save_weights(untied, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"embedding\.weight shares memory with another weight"):
        checkpoint.load_weights(Tied(), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(3, 5), r"weight is \(5, 3\) in the file, \(4, 3\) in the model; bias is \(5,\)"),
        (nn.Linear(3, 4, bias=False), r"bias is missing"),
        (
            nn.Sequential(nn.Linear(3, 4)),
            r"weight is missing; bias is missing; 0\.bias is not in the model; and 1 more",
        ),
    ],
)
def test_weights_of_another_model_are_refused_by_name_and_change_nothing(
    tmp_path: Path, other: nn.Module, message: str
) -> None:
    model = nn.Linear(3, 4)
    before = model.weight.clone()
    checkpoint.save_weights(other, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=rf"w\.safetensors: weights of another model: {message}"):
        checkpoint.load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("length", [0, 4, 60, -1])
def test_truncated_weights_are_refused_with_the_file_name(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(nn.Linear(3, 4), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"w\.safetensors: not a readable safetensors file"):
        checkpoint.load_weights(nn.Linear(3, 4), path)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not weights at all", encoding="utf-8")
    for name in ("text", "absent", "."):
        with pytest.raises(InputError, match="not a readable safetensors file"):
            checkpoint.load_weights(nn.Linear(1, 1), tmp_path / name)
        with pytest.raises(InputError, match="not a readable training state"):
            checkpoint.load_state(tmp_path / name)


def test_a_training_state_comes_back_and_is_aliased_to_nothing(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 2)).sum().backward()
    optimizer.step()
    checkpoint.save_state({"optimizer": optimizer.state_dict(), "n": 3}, tmp_path / "o.pt")
    state = checkpoint.load_state(tmp_path / "o.pt")
    assert state["n"] == 3
    moments = state["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moments, optimizer.state[model.weight]["exp_avg"])
    assert moments is not optimizer.state[model.weight]["exp_avg"]


class _Attack:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("attacked",)


def test_opening_a_state_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": _Attack()}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(_Attack(), protocol=2))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(InputError, match=f"{name}: not a readable training state"):
            checkpoint.load_state(tmp_path / name)
    assert not (tmp_path / "attacked").exists()


def test_json_is_strict_and_floats_come_back_exactly(tmp_path: Path) -> None:
    obj = {
        "a": 0.1 + 0.2,
        "b": [math.nan, math.inf],
        "p": Path("x/y"),
        "t": (1, True),
        "n": np.float32(0.5),
        "u": "変",
    }
    checkpoint.write_json(
        tmp_path / "a.json", obj | {"x": torch.tensor([1.5, math.nan]), "np": np.float64("nan")}
    )
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    plain = {"a": 0.1 + 0.2, "b": [None, None], "p": "x/y", "t": [1, True], "n": 0.5, "u": "変"}
    assert checkpoint.read_json(tmp_path / "a.json") == plain | {"x": [1.5, None], "np": None}
    with pytest.raises(TypeError, match="to_json: object has no JSON form"):
        checkpoint.to_json(object())


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff\xfe", b"[" * 100_000])
def test_missing_or_broken_json_is_refused_with_the_file_name(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: (no such file|not a readable JSON file)"):
        checkpoint.read_json(tmp_path / "a.json")


def test_files_get_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    checkpoint.save_weights(nn.Linear(1, 1), tmp_path / "w.safetensors")
    checkpoint.save_state({}, tmp_path / "o.pt")
    checkpoint.write_json(tmp_path / "a.json", 1)
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.write_json(tmp_path / "a.json", 1)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_json(tmp_path / "a.json", 2)
    assert checkpoint.read_json(tmp_path / "a.json") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    last = tmp_path / "deep" / "last"
    last.parent.mkdir()
    assert checkpoint.existing_folder(last) is None
    for value in ("one", "two"):
        with checkpoint.replacing_folder(last) as folder:
            (folder / value).touch()
        assert [p.name for p in last.iterdir()] == [value]
    with pytest.raises(FileNotFoundError), checkpoint.replacing_folder(last) as folder:
        (folder / "no such folder" / "three").touch()
    assert [p.name for p in last.iterdir()] == ["two"]
    assert [p.name for p in last.parent.iterdir()] == ["last"]


def test_a_crash_between_the_two_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = tmp_path / "last"
    rename = Path.rename

    def crash(self: Path, target: Path) -> Path:
        if self.name == ".last.new":
            raise OSError("power cut")
        return rename(self, target)

    with checkpoint.replacing_folder(last) as folder:
        (folder / "one").touch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        for value in (
            "two",
            "three",
        ):  # twice: the second attempt starts from the first one's wreck
            with (
                pytest.raises(OSError, match="power cut"),
                checkpoint.replacing_folder(last) as folder,
            ):
                (folder / value).touch()
            survivor = checkpoint.existing_folder(last)
            assert survivor is not None
            assert [p.name for p in survivor.iterdir()] == ["one"]
    with checkpoint.replacing_folder(last) as folder:
        (folder / "four").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["last"]
    assert (last / "four").exists()


def test_the_litter_of_a_crash_after_the_renames_is_swept(tmp_path: Path) -> None:
    for name in ("last", ".last.old", ".last.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").touch()
    with checkpoint.replacing_folder(tmp_path / "last") as folder:
        (folder / "new").touch()
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["last", "last/new"]


_WRITER = """
import sys, itertools
from pathlib import Path
from univae.checkpoint import replacing_folder, write_json
print("ready", flush=True)
for n in itertools.count():
    with replacing_folder(Path(sys.argv[1])) as folder:
        for name in "abc":
            write_json(folder / f"{name}.json", [n] * 1000)
"""


def test_a_killed_writer_leaves_one_whole_folder(tmp_path: Path) -> None:
    last = tmp_path / "last"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(last)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.5)
    writer.kill()
    writer.wait()
    writer.stdout.close()
    folder = checkpoint.existing_folder(last)
    assert folder is not None
    values = [json.loads((folder / f"{name}.json").read_text()) for name in "abc"]
    assert values[0] == values[1] == values[2]


def test_json_is_read_of_regular_files_of_bounded_size_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("tokenizer.json", "pipe.json"):
        with pytest.raises(InputError, match=r"not a readable JSON file \(it is no regular file\)"):
            checkpoint.read_json(tmp_path / name)
    assert checkpoint.LARGEST_JSON == 512 * 2**20
    monkeypatch.setattr(checkpoint, "LARGEST_JSON", 3)
    (tmp_path / "a.json").write_text("123")
    assert checkpoint.read_json(tmp_path / "a.json") == 123
    (tmp_path / "a.json").write_text("1234")
    with pytest.raises(InputError, match="4 bytes, and it may have 3"):
        checkpoint.read_json(tmp_path / "a.json")
