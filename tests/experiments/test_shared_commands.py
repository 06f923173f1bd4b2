"""Commands under torchrun: the files and results of one process, and an end when one fails."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
DATA = GOLDEN / "data"
LONGEST_END = 180  # seconds, of a start on a busy machine and an end

Start = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.slow  # every test starts three processes or more


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / name / "run", folder / name))


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_two_processes_encode_to_the_bytes_of_one(
    suffix: str, tmp_path: Path, started: Start
) -> None:
    run = copied("table", tmp_path)
    rows = np.load(DATA / "table.npy")
    np.save(tmp_path / "rows.npy", np.resize(rows, (3300, *rows.shape[1:])))  # blocks of 1,000
    results = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}{suffix}"
        data = tmp_path / "rows.npy"
        results.append(started(processes, "experiments.encode", run, "--data", data, "--out", out))
    assert (tmp_path / f"2{suffix}").read_bytes() == (tmp_path / f"1{suffix}").read_bytes()
    one, two = results
    assert two["shape"][0] == 3300
    assert two | {"out": ""} == one | {"out": ""}


def test_of_two_processes_one_compresses_and_one_restores(tmp_path: Path, started: Start) -> None:
    run = copied("text", tmp_path)
    text = DATA / "texts.txt"
    packed = [tmp_path / f"{processes}.bits" for processes in (1, 2)]
    for processes, file in zip((1, 2), packed, strict=True):
        result = started(processes, "experiments.compress", run, text, file, "--ideal-samples", 0)
        assert result["bytes_out"] == file.stat().st_size
    assert packed[0].read_bytes() == packed[1].read_bytes()
    restored = tmp_path / "restored.txt"
    started(2, "experiments.decompress", run, packed[1], restored)
    assert restored.read_bytes() == text.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1.bits", "2.bits", "restored.txt", "text",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["encode", "compress", "decompress"])
def test_a_refusal_of_the_first_process_ends_both_with_one_message(
    command: str, tmp_path: Path
) -> None:
    run = copied("text", tmp_path)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfd\n")
    (tmp_path / "bad.bits").write_bytes(b"no such file")
    arguments = {
        "encode": ["--data", tmp_path / "bad.txt", "--out", tmp_path / "out.npy"],
        "compress": [tmp_path / "bad.txt", tmp_path / "out.bits"],
        "decompress": [tmp_path / "bad.bits", tmp_path / "out.txt"],
    }[command]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", f"experiments.{command}", str(run), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        cwd=ROOT,
        timeout=LONGEST_END,
    )
    assert done.returncode != 0
    own = {line for line in done.stderr.splitlines() if line.startswith(f"{command}.py: ")}
    # the same line of both where both read the data; else the other says that its peer has ended
    assert len([line for line in own if "has ended" not in line]) == 1, done.stderr
    assert f'File "{ROOT / "experiments"}' not in done.stderr  # no traceback but torchrun's
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.bits", "bad.txt", "text"]
