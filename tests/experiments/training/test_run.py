"""The run folder refuses other files, records its data, and survives a crash in mid-line."""

import json
import math
import tracemalloc
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from experiments.training.comparison import require_same_options
from experiments.training.metrics_file import MetricsFile
from experiments.training.run_folder import Run
from univae.checkpoint import read_json
from univae.errors import InputError
from univae.run_folder import RunFolder, model_shape
from univae.vae.model import UniVAEConfig

CONFIG = {
    "out": Path("runs/a"),
    "lr": 3e-4,
    "layers": (1, 2),
    "model": {"width": 8},
    "resume": False,
    "threads": 0,
}


def test_a_new_run_records_its_configuration_and_environment(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "deep" / "run", CONFIG)
    assert Run.open(run.path).config == run.config == CONFIG | {"out": "runs/a", "layers": [1, 2]}
    environment = read_json(run.path / "environment.json")
    assert {
        "python",
        "torch",
        "numpy",
        "univae",
        "threads",
        "device",
        "cpu",
        "git",
        "command",
    } <= environment.keys()
    assert all(
        environment[key]
        for key in ("python", "torch", "numpy", "univae", "threads", "device", "cpu")
    )
    assert all((run.path / name).is_dir() for name in ("samples", "plots", "checkpoints"))


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(
        InputError,
        match=r"run already holds a run; continue it with --resume, or give another --out",
    ):
        Run.create(run.path, CONFIG | {"lr": 1.0})
    assert Run.open(run.path).config["lr"] == 3e-4
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(InputError, match="photos holds other files; give a new or empty folder"):
        Run.create(tmp_path / "photos", CONFIG)
    with pytest.raises(InputError, match=r"a\.jpg is a file"):
        Run.create(tmp_path / "photos" / "a.jpg", CONFIG)
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", CONFIG)


def test_what_is_no_run_folder_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a run folder: it holds no config\.json"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match="nowhere does not exist"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere does not exist"):
        Run.create(tmp_path / "nowhere", CONFIG | {"resume": True})
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="not a JSON object"):
        Run.open(tmp_path)


def test_resuming_with_another_configuration_shows_the_difference(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", CONFIG)
    changed = CONFIG | {"lr": 1e-3, "model": {"width": 9}, "seed": 1, "threads": 2, "resume": True}
    message = (
        r"configuration: lr: 0\.0003 -> 0\.001, model\.width: 8 -> 9, threads: \d+ -> 2, "
        "seed: null -> 1; leave"
    )
    with pytest.raises(InputError, match=message):
        Run.create(tmp_path / "run", changed)


def test_resuming_may_move_the_folder_and_change_how_often_one_saves(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG | {"checkpoint_every": 1})
    run.fail({"error": "it broke"})
    run.path.rename(tmp_path / "moved")
    again = CONFIG | {"out": tmp_path / "moved", "checkpoint_every": 5, "resume": True}
    for count in (1, 2):
        run = Run.create(tmp_path / "moved", again)
        run.record_resume()
        assert len(read_json(run.path / "environment.json")["resumed"]) == count
    assert not (run.path / "ERROR.json").exists()
    assert Run.open(run.path).config["checkpoint_every"] == 1


@pytest.mark.usefixtures("unchecked")
def test_a_value_of_another_type_in_the_configuration_is_named() -> None:
    config = {
        field.name: field.default for field in fields(UniVAEConfig) if field.name != "vocab_size"
    }
    assert model_shape(UniVAEConfig, config, 9) == UniVAEConfig(9)
    assert model_shape(UniVAEConfig, config | {"kappa": 3}, 9).kappa == 3
    of_version_0_1_0 = {name: value for name, value in config.items() if name != "softmax"}
    assert model_shape(UniVAEConfig, of_version_0_1_0, 9).softmax == "full"
    for name, value, rule in [
        ("width", "16", "a whole number; got width='16'"),
        ("width", 16.0, r"a whole number; got width=16\.0"),
        ("layers", None, "a whole number; got layers=None"),
        ("learn_kappa", 1, "true or false; got learn_kappa=1"),
        ("dropout", True, "a number; got dropout=True"),
        ("dropout", math.nan, r"in \[0, 1\); got dropout=nan"),
        ("latent", ["vmf"], "gaussian.* or .*; got"),
    ]:
        with pytest.raises(InputError, match=rf"config\.json: {name} must be {rule}"):
            model_shape(UniVAEConfig, config | {name: value}, 9)


def test_a_record_of_the_data_is_compared_when_a_run_resumes(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    assert run.data_record() == {}
    record = {"text": {"source": "/a.txt", "fingerprint": "0a", "count": 3}}
    run.record_data(record)
    again = Run(run.path, CONFIG | {"resume": True})
    again.record_data({"text": record["text"] | {"source": "/b.txt"}})  # a file may move
    assert again.data_record() == record
    with pytest.raises(
        InputError, match=r"have changed since \(text /a\.txt: 3 then, 4 now\); restore them"
    ):
        again.record_data({"text": record["text"] | {"fingerprint": "0b", "count": 4}})
    with pytest.raises(InputError, match="have changed since"):
        again.record_data({**record, "validation": record["text"]})
    for content in ("[1]", '{"text": 3}'):
        (run.path / "data.json").write_text(content)
        with pytest.raises(InputError, match=r"data\.json: not a JSON object"):
            again.record_data(record)


def test_a_run_stopped_before_its_data_were_recorded_records_them_when_it_resumes(
    tmp_path: Path,
) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    record = {"text": {"source": "/a.txt", "fingerprint": "0a", "count": 3}}
    again = Run(run.path, CONFIG | {"resume": True})
    again.record_data(record)
    assert again.data_record() == record
    (run.path / "data.json").unlink()
    with again.saving("last"):
        pass
    again.record_data(record)  # of version 0.1.0: what it was trained on is not known
    assert again.data_record() == {}


def test_rows_come_back_in_order_and_are_strict_json(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    assert run.rows() == []
    run.log("train", 1, loss=0.1 + 0.2, note="変")
    run.log("validation", 1, selection=math.nan)
    run.log("train", 2, loss=math.inf)
    assert run.rows("train") == [
        {"kind": "train", "step": 1, "loss": 0.1 + 0.2, "note": "変"},
        {"kind": "train", "step": 2, "loss": None},
    ]
    assert run.rows()[1] == {"kind": "validation", "step": 1, "selection": None}
    assert Run.open(run.path).rows() == run.rows()


def test_a_row_cut_off_by_a_crash_is_forgotten(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    for step in range(4):
        run.log("train", step)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert run.count_rows() == len(run.rows()) == 4
    run.truncate_rows(2)
    run.log("train", 2)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_rows_are_counted_without_reading_them_again(tmp_path: Path, monkeypatch: Any) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    blocks = []
    end_of_rows = MetricsFile._end_of_rows
    monkeypatch.setattr(
        MetricsFile, "_end_of_rows", lambda *a: (blocks.append(a), end_of_rows(*a))[1]
    )
    for step in range(50):
        run.log("train", step)
        assert run.count_rows() == step + 1
    assert len(blocks) == 1


@pytest.mark.parametrize("block", [1, 7, 64, 2**20])
def test_rows_are_cut_at_the_same_byte_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: Any, block: int
) -> None:
    monkeypatch.setattr("experiments.training.metrics_file.BLOCK", block)
    lines = [b'{"a": 1}\n', '{"b": "変"}\n'.encode(), b"\n", b"{}\n"]
    for count in (0, 1, 2, 3, 4, 9):
        path = tmp_path / f"{count}.jsonl"
        path.write_bytes(b"".join(lines) + b'{"cut')
        metrics = MetricsFile(path)
        assert metrics.count == 4
        metrics.truncate(count)
        assert path.read_bytes() == b"".join(lines[:count])
        assert metrics.count == min(count, 4)


@pytest.mark.slow
def test_rows_of_a_kind_are_found_in_a_hundred_thousand_in_little_memory(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    row = {"kind": "train", "step": 1, "loss": 0.123456789, "note": "validation"}
    line = json.dumps(row) + "\n"
    with (run.path / "metrics.jsonl").open("w") as file:
        file.write(line * 50_000)
        file.write('{"kind": "validation", "step": 2}\n')
        file.write(line * 50_000)
    tracemalloc.start()
    (found,) = run.rows("validation")
    assert run.count_rows() == 100_001
    run.truncate_rows(100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["step"] == 2
    assert peak < 4e6  # of a file of 8 MB
    assert run.count_rows() == 100_000


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(InputError, match="holds no checkpoint 'best'"):
        run.checkpoint()
    with run.saving("best") as folder:
        (folder / "state.json").touch()
    with pytest.raises(FileNotFoundError), run.saving("best") as folder:
        (folder / "absent" / "state.json").touch()
    names = sorted(path.name for path in run.checkpoint().iterdir())
    assert names == ["checksums.json", "state.json"]


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Run.create(tmp_path / "run", CONFIG)
    first.log("train", 1)
    before = {path: path.is_file() and path.read_bytes() for path in first.path.rglob("*")}
    monkeypatch.setenv("RANK", "1")
    for resume in (False, True):
        run = Run.create(first.path, CONFIG | {"resume": resume})
        run.log("train", 2)
        run.finish({})
        run.fail({})
        run.truncate_rows(0)
    assert {path: path.is_file() and path.read_bytes() for path in first.path.rglob("*")} == before


def test_a_decision_left_to_the_data_is_that_of_the_run(tmp_path: Path) -> None:
    stored = RunFolder(tmp_path, {"network": "conv", "steps": 2, "minutes": 0.0})
    options = {"network": "auto", "steps": 2, "minutes": 0.0}
    require_same_options(stored, options)
    with pytest.raises(InputError, match='network: "conv" -> "mlp"'):
        require_same_options(stored, {**options, "network": "mlp"})
