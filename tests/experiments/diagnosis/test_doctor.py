"""The doctor finds what is so, says what to do about what is wrong, and outlives odd machines."""

import configparser
import errno
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import doctor
from experiments.diagnosis import installation, machine, speed
from experiments.diagnosis.findings import Finding, find, table
from experiments.training import cores
from experiments.training.process_environment import POLICY
from experiments.training.threads import Choice

ROOT = Path(__file__).parents[3]
GIGABYTE = 10**9


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def test_the_result_has_every_number_and_leaves_the_number_of_threads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    result = doctor.main(doctor.Config(out=tmp_path / "new" / "runs", seconds=0.05))
    assert torch.get_num_threads() == before
    assert list(tmp_path.iterdir()) == []
    json.dumps(result, allow_nan=False)

    found = result["versions"]["torch"].partition("+")[0]  # the build may be named
    assert found == torch.__version__.partition("+")[0]
    assert result["threads"] >= 1
    assert result["free_disk_bytes"] > 0
    assert result["gigaflops"] > 0
    assert result["fsync_seconds"] > 0
    assert result["steps_per_second"].keys() == {"1", str(cores.usable_cores())}
    assert min(result["steps_per_second"].values()) > 0

    shown = capsys.readouterr().err
    for name in ("versions", "extras", "device", "cores", "threads", "waiting", "OpenMP"):
        assert re.search(rf"^  {name} ", shown, re.MULTILINE), name
    assert "unknown" not in shown
    assert all(len(line) <= 100 for line in shown.splitlines())
    for name, advice in result["advice"].items():
        assert advice, name
        assert shown.count("->") >= len(result["advice"])


def test_a_machine_that_answers_nothing_is_described_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No /proc, no cgroups, no disk, nowhere to write, a GPU that breaks."""

    def broken(*_: object, **__: object) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(machine, "read_text", lambda _: "")
    monkeypatch.setattr(cores, "read_text", lambda _: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    monkeypatch.setattr(shutil, "disk_usage", broken)
    monkeypatch.setattr(tempfile, "TemporaryFile", broken)
    result = doctor.main(doctor.Config(out=tmp_path, seconds=0.01))
    shown = capsys.readouterr().err
    for name in ("device", "disk", "writing"):
        assert re.search(rf"^  {name} +unknown \(OSError: \[Errno 30\] Read-only", shown, re.M)
    assert result["advice"]["writing"].startswith("no run can be written there: give an --out")
    assert "--device cpu" in result["advice"]["device"]
    assert "memory" in shown
    assert result["threads"] >= 1
    assert "free_disk_bytes" not in result


def test_without_a_speed_test_nothing_is_measured(tmp_path: Path) -> None:
    result = doctor.main(doctor.Config(out=tmp_path, seconds=0))
    assert not {"gigaflops", "steps_per_second", "fsync_seconds"} & result.keys()


def test_what_goes_wrong_in_a_look_is_the_finding() -> None:
    def look() -> Finding:
        raise ValueError("two\nlines")

    assert find(look) == Finding(
        "unknown (ValueError: two lines)", "nothing depends on it; the other lines hold"
    )
    assert find(look, "do this").advice == "do this"


def test_the_table_names_findings_and_indents_advice() -> None:
    findings = [("a", Finding("first")), ("longer", Finding("second", "do this"))]
    assert table(findings).splitlines() == [
        "  a       first",
        "  longer  second",
        "          -> do this",
    ]
    lines = table([("a", Finding("word " * 60, "advice " * 40))]).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) > 4


def test_the_extras_are_those_of_the_installation_and_missing_ones_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    declared = dict(setup["options.extras_require"])
    for name, extra in installation.EXTRAS.items():
        packages = re.findall(r"^[\w-]+", declared.pop(name), re.MULTILINE)
        assert tuple(dict.fromkeys(packages)) == extra.packages
    assert declared.keys() == {"test", "bench", "docs"}  # of the developers

    present = {"datasets", "huggingface-hub", "fsspec", "pandas"}
    monkeypatch.setattr(installation, "_version", lambda name: "1.0" if name in present else "")
    found = installation.extras()
    assert found.numbers == {
        "extras": {
            "hub": True,
            "remote": True,
            "board": False,
            "fid": False,
            "hf": False,
            "onnx": False,
            "usearch": False,
            "faiss": False,
            "trackio": False,
            "explore": False,
            "glyphs": False,
            "tables": False,
        }
    }
    assert found.advice.startswith(
        "pip install 'univae[board,fid,hf,onnx,usearch,faiss,trackio,explore,glyphs,tables]'"
    )
    assert installation.versions().advice == "pip install torch numpy safetensors tokenizers"


def test_the_waiting_policy_is_named_with_who_chose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = {
        "command": {**POLICY, "UNIVAE_WAIT_POLICY": "command"},
        "user": {"OMP_WAIT_POLICY": "ACTIVE"},
        "runtime": {},
    }
    for name in ("UNIVAE_WAIT_POLICY", *POLICY):
        monkeypatch.delenv(name, raising=False)
    for origin, variables in origins.items():
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            found = machine.waiting()
        assert found.numbers["waiting_policy_origin"] == origin
        assert found.numbers["waiting_policy"].items() <= variables.items()
        assert bool(found.advice) == (origin != "command")  # by which all is well
        for name, value in POLICY.items() if origin != "user" else ():
            assert f"{name}={value}" in f"{found.value} {found.advice}"


def test_little_disk_and_memory_slow_disk_and_busy_cores_have_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))
    assert machine.disk(tmp_path).advice == (
        "a run has up to three checkpoints: give an --out on a larger disk"
    )
    monkeypatch.setattr(machine, "_is_writable", lambda _: False)
    assert machine.disk(tmp_path).advice == "give an --out where you may write"

    monkeypatch.setattr(machine, "memory_limit", lambda: GIGABYTE)
    assert machine.memory().numbers["free_memory_bytes"] == GIGABYTE
    assert "--accumulate" in machine.memory().advice
    monkeypatch.setattr(machine, "memory_limit", lambda: 50 * GIGABYTE)
    monkeypatch.setattr(machine, "_available_memory", lambda: 40 * GIGABYTE)
    assert machine.memory() == Finding(
        "40.0 GB free (50.0 GB within the limit of the control group)",
        numbers={"free_memory_bytes": 40 * GIGABYTE},
    )

    monkeypatch.setattr(speed, "SLOW_DISK", 0.0)
    assert "--checkpoint-every" in speed.disk_speed(0.0, tmp_path).advice
    monkeypatch.setattr(machine, "busy_cores", lambda: 64.0)
    assert machine.cores().advice.startswith("other programs")
    monkeypatch.setattr(machine, "choose_threads", lambda: Choice(1, "because", is_reduced=True))
    assert "--threads" in machine.threads().advice


def test_one_thread_is_advised_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {1: 3.0, 4: 2.0}

    class Training:
        def steps_per_second(self, seconds: float, threads: int) -> float:
            assert seconds == 1.0
            return speeds[threads]

    monkeypatch.setattr(speed, "SmallTraining", Training)
    assert "--threads 1" in speed.training_speed(2.0, 4).advice
    speeds[4] = 2.9
    assert speed.training_speed(2.0, 4).advice == ""


@pytest.mark.parametrize(
    ("maps", "loaded"),
    [
        ("7f00 r-xp /a/torch/lib/libgomp.so.1\n7f01 rw /b/libgomp-98df74fd.so.1.0.0", ["GNU"]),
        (
            "7f00 r-xp /a/libgomp.so.1\n7f01 /b/libiomp5.so\n/c/libomp.dylib",
            ["GNU", "Intel", "LLVM"],
        ),
        ("7f00 r-xp /a/libcomposite.so", []),
        ("", []),
    ],
)
def test_openmp_runtimes_are_those_that_the_process_has_mapped(
    monkeypatch: pytest.MonkeyPatch, maps: str, loaded: list[str]
) -> None:
    monkeypatch.setattr(machine, "read_text", lambda _: maps)
    found = machine.openmp()
    assert found.numbers == {"openmp": loaded}
    assert bool(found.advice) == (len(loaded) > 1)
