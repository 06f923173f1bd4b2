"""Nothing in a run folder leads out of it, runs code or corrupts memory; one process trains."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.reports.page import update
from experiments.reports.page import write as write_report
from experiments.training.loop import fit_task
from experiments.training.optimizer_state import restore
from experiments.training.optimizers import build
from experiments.training.run_folder import Run, or_nothing
from experiments.training.settings import Settings
from tests.experiments.training.test_loop import Toy
from univae.checkpoint import load_state, read_json, save_state, write_json
from univae.errors import InputError
from univae.optim.step_sizes import AdaptedSteps


def trained(path: Path, **options: Any) -> Run:
    settings = Settings(steps=3, **options)
    run = Run.create(path, {"steps": 3, "resume": False})
    fit_task(Toy(), settings, run)
    return run


def resumed(path: Path, **options: Any) -> dict[str, Any]:
    return fit_task(
        Toy(),
        Settings(steps=3, resume=True, **options),
        Run.create(path, {"steps": 3, "resume": True}),
    )


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "tiger", "egdd"])
@pytest.mark.parametrize("numbers", [0, 1, 7])
def test_averages_of_another_shape_are_refused_before_a_kernel_reads_them(
    tmp_path: Path, optimizer: Any, numbers: int
) -> None:
    run = trained(tmp_path / "run", optimizer=optimizer)
    file = run.checkpoint("last") / "optimizer.pt"
    state = load_state(file)
    entry = state["optimizer"]["state"][0]
    name = next(name for name, x in entry.items() if torch.is_tensor(x) and x.ndim)
    entry[name] = torch.zeros(numbers)
    save_state(state, file)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(
        InputError, match=rf"optimizer\.pt: {name} of parameter 0 must have the shape"
    ):
        resumed(run.path, optimizer=optimizer)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_state_that_is_empty_damaged_or_of_another_optimizer_is_refused() -> None:
    model = nn.Linear(3, 2)
    optimizer = build(model, Settings(), torch.device("cpu"))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    groups = state["param_groups"]
    first = state["state"][0]
    damaged: list[tuple[Any, str]] = [
        ({"state": {}, "param_groups": groups}, "holds no averages after 5 steps"),
        ({"state": {9: first}, "param_groups": groups}, "a state of parameter 9"),
        ({"state": {0: {"step": 1}}, "param_groups": groups}, "lacks"),
        (
            {"state": {0: first | {"exp_avg": "x"}}, "param_groups": groups},
            "exp_avg of parameter 0 must have the shape",
        ),
        (
            {"state": {0: first | {"exp_avg": 0.5}}, "param_groups": groups},
            "exp_avg of parameter 0 must have the shape",
        ),
        (
            {
                "state": {
                    0: first | {"exp_avg": torch.zeros(1, dtype=model.weight.dtype).expand(2, 3)}
                },
                "param_groups": groups,
            },
            "must be dense real numbers",
        ),
        (
            {
                "state": {0: first | {"exp_avg": torch.zeros(2, 3, dtype=torch.int64)}},
                "param_groups": groups,
            },
            "must be dense real numbers",
        ),
        ({"state": {0: first}, "param_groups": groups[:1]}, "is not of the model's"),
        ({"param_groups": groups}, "not the state of an optimizer"),
        (None, "not the state of an optimizer"),
        ([], "not the state of an optimizer"),
    ]
    for content, message in damaged:
        with pytest.raises(InputError, match=message):
            restore(optimizer, content, 5)
    restore(optimizer, state, 5)
    restore(optimizer, {"state": {}, "param_groups": groups}, 0)


def test_options_come_from_the_configuration_and_not_from_the_file() -> None:
    model = nn.Linear(3, 2)
    optimizer = build(model, Settings(beta1=0.8), torch.device("cpu"))
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group.update(betas=(2.0, -1.0), fused="yes", lr="much", amsgrad=True)
    restore(optimizer, state, 0)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.98)}
    assert not any(group["amsgrad"] for group in optimizer.param_groups)


def test_step_sizes_of_another_shape_are_refused() -> None:
    model = nn.Linear(3, 2)
    adapted = AdaptedSteps(torch.optim.SGD(model.parameters(), lr=0.1))
    for state in (
        {},
        {"state": {0: {"scale": torch.ones(())}}},
        {"state": {0: {"step": 1, "scale": 2}}},
    ):
        with pytest.raises(InputError, match="AdaptedSteps"):
            adapted.load_state_dict(state)
    with pytest.raises(InputError, match=r"step of parameter 0 must have the shape \(2, 3\)"):
        adapted.load_state_dict({"state": {0: {"step": torch.zeros(7), "scale": torch.ones(())}}})


def test_a_run_in_which_another_process_trains_is_refused_by_name(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    script = (
        "import sys, time\n"
        "from experiments.training.run_folder import Run\n"
        "with Run.open(sys.argv[1]).locked():\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(
            InputError, match=rf"process {other.pid} on .* is training in this folder"
        ):
            resumed(run.path)
        with pytest.raises(InputError, match="is training in this folder"), run.locked():
            pass
        other.kill()  # the kernel frees the lock of a process that died
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            resumed(run.path)
            break
        except InputError:
            time.sleep(0.1)
    assert read_json(run.path / "environment.json")["resumed"]


def test_what_a_killed_process_left_neither_blocks_a_start_nor_stays(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.json.4711.new").write_text("{")
    run = Run.create(folder, {"steps": 1})
    assert not list(folder.glob("*.new"))
    (run.path / "samples" / ".worst.json.4711.new").write_text("{")
    (run.path / "samples" / "notes.new").write_text("somebody's")
    run.record_resume()
    assert [path.name for path in (run.path / "samples").iterdir()] == ["notes.new"]
    with pytest.raises(InputError, match="already holds a run"):
        Run.create(folder, {"steps": 1})


def test_a_refused_resume_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    run.fail({"error": "it broke"})
    before = {
        path: path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    with pytest.raises(InputError, match="another configuration"):
        Run.create(run.path, {"steps": 3, "lr": 0.1, "resume": True})
    (run.checkpoint("last") / "model.safetensors").rename(tmp_path / "weights")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        resumed(run.path)
    (tmp_path / "weights").rename(run.checkpoint("last") / "model.safetensors")
    after = {
        path: path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    after[run.path / "ERROR.json"] = before[run.path / "ERROR.json"]  # says why the second failed
    assert after == before


def test_every_file_is_forced_to_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    fsync = os.fsync
    replace = os.replace
    rename = Path.rename

    def noted_fsync(descriptor: int) -> None:
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def noted_replace(source: Any, target: Any) -> None:
        events.append(("replace", os.fspath(target)))
        assert ("fsync", os.fspath(source)) in events
        replace(source, target)

    def noted_rename(source: Path, target: Path) -> Path:
        if target.name == "last":
            written = {path for path in source.rglob("*") if path.is_file()}
            assert written
            assert {("fsync", str(path)) for path in (*written, source)} <= set(events)
        return rename(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name a descriptor")
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(Path, "rename", noted_rename)
    run = trained(tmp_path / "run")
    for name in ("config.json", "environment.json", "DONE"):
        at = events.index(("replace", str(run.path / name)))
        assert ("fsync", str(run.path)) in events[at:]
    assert ("fsync", str(run.path / "metrics.jsonl")) in events


def sample(run: Run, content: dict[str, Any]) -> str:
    write_json(run.path / "samples" / "z.json", content)
    return write_report(run.path).read_text(encoding="utf-8")


def test_a_report_embeds_no_file_from_outside_its_samples(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"steps": 1})
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\n secret")
    (run.path / "samples" / "link.png").symlink_to(secret)
    (run.path / "samples" / "text.png").write_text("no image")
    for name in (
        str(secret),
        "../../secret.png",
        "link.png",
        "text.png",
        "absent.png",
        "",
        "..",
        5,
        None,
    ):
        page = sample(run, {"kind": "images", "title": "t", "file": name})
        assert "cannot be shown" in page
        assert "data:image" not in page
    (run.path / "samples" / "own.png").write_bytes(secret.read_bytes())
    assert "data:image" in sample(run, {"kind": "images", "title": "t", "file": "own.png"})


def test_damaged_samples_are_named_in_the_report_and_break_nothing(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"steps": 1})
    for kind in ("points", "likelihood", "texts", "images"):
        for rest in (
            {},
            {"x": 1, "y": None, "columns": 3, "rows": "ab", "totals": [], "note": 3, "ladder": 0},
        ):
            page = sample(run, {"kind": kind, "title": "damaged one", **rest})
            assert "damaged one" in page


def test_plots_that_are_a_link_are_not_written_through(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train_loss.svg").write_text("mine")
    for path in (run.path / "plots").iterdir():
        path.unlink()
    (run.path / "plots").rmdir()
    (run.path / "plots").symlink_to(elsewhere)
    run.log("train", 3, loss=1.0, lr=0.1)
    run.log("train", 4, loss=1.0, lr=0.1)
    with pytest.raises(InputError, match="is a link"):
        write_report(run.path)
    assert (elsewhere / "train_loss.svg").read_text() == "mine"
    assert json.loads((run.path / "config.json").read_text())["steps"] == 3


def test_a_result_survives_a_run_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"steps": 1})
    written = []

    def refuse() -> None:
        raise OSError(errno.EROFS, "Read-only file system", "samples/.worst.json.1.new")

    assert update(run.path, lambda: written.append(1)) == (str(run.path / "report.html"), [])
    assert written
    assert update(run.path, refuse) == (
        None,
        [f"{run.path}: the report was not written (Read-only file system)"],
    )


def test_a_start_that_finds_another_process_training_deletes_nothing(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"steps": 1})
    with (
        Run.open(run.path).locked(),
        pytest.raises(InputError, match="is training in this folder"),
        or_nothing(run),
    ):
        pass
    assert (run.path / "config.json").exists()
    with pytest.raises(InputError, match="no"), or_nothing(run), run.locked():
        raise InputError("no")
    assert not run.path.exists()


def test_a_failed_start_leaves_an_empty_folder_of_the_user_and_no_parent_of_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "mine", tmp_path / "a" / "b"):
        run = Run.create(out, {"steps": 1})
        with pytest.raises(InputError, match="no"), or_nothing(run):
            raise InputError("no")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_refused_resume_with_a_linked_folder_writes_nothing(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    (run.path / "samples").rmdir()
    (run.path / "samples").symlink_to(tmp_path)
    before = (run.path / "environment.json").read_bytes()
    with pytest.raises(InputError, match="is a link"):
        resumed(run.path)
    assert (run.path / "environment.json").read_bytes() == before
