"""A request to stop is answered at once, wherever it arrives, and the run stays resumable."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import train_density, train_text
from experiments.training.stopping import Interrupted, StopRequest
from tests.experiments.training.test_loop import SETTINGS, Toy, assert_equal, everything, train
from univae.checkpoint import read_json
from univae.text.corpus_files import ShardWriter

TEXT: dict[str, Any] = {
    "tokenizer": "words",
    "width": 16,
    "heads": 2,
    "layers": 2,
    "latent_width": 4,
    "steps": 2,
    "calibration": 0.0,
    "validation_texts": 4,
    "validation_samples": 2,
    "threads": 1,
}
LONGEST_ANSWER = 30.0  # seconds, on a machine that runs other tests too


def stop_in(owner: Any, name: str, patch: pytest.MonkeyPatch, call: int = 1) -> None:
    """Let a function be asked to stop in its ``call``-th call, before it does anything."""
    function = getattr(owner, name)
    calls = []

    def stopping(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **options)

    patch.setattr(owner, name, stopping)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.new") if path.is_file()]


@pytest.mark.parametrize(("call", "step"), [(1, 5), pytest.param(3, 12, marks=pytest.mark.slow)])
def test_a_validation_that_was_interrupted_is_repeated_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, step: int
) -> None:
    result, _, whole = train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_in(Toy, "validate", patch, call)
        with pytest.raises(Interrupted, match=f"after step {step}; continue with --resume"):
            train(tmp_path / "parts")
    parts = tmp_path / "parts"
    assert read_json(parts / "checkpoints" / "last" / "state.json")["validated"] < step
    assert not (parts / "DONE").exists()
    resumed, _, run = train(parts, replace(SETTINGS, resume=True))
    for name in ("last", "best"):
        assert_equal(everything(whole, name), everything(run, name))
    assert {**resumed, "seconds": 0} == {**result, "seconds": 0}


def test_a_signal_raises_at_once_only_where_that_is_asked_for() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(Interrupted, match="interrupted"), StopRequest(at_once=True):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    torch.set_default_dtype(torch.float32)
    words = ["red", "blue", "cat", "dog", "sees", "likes"]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"{a} {b} {c}" for a in words for b in words for c in words))
    return path


def test_tokenising_that_was_interrupted_is_resumed_to_the_same_bits(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(name: str, **options: Any) -> train_text.Config:
        return train_text.Config.of(text=str(texts), out=tmp_path / name, **TEXT, **options)

    train_text.train(config("whole"))
    with monkeypatch.context() as patch:
        stop_in(ShardWriter, "add", patch)
        with pytest.raises(Interrupted, match="before the first step; continue with --resume"):
            train_text.train(config("parts"))
    parts = tmp_path / "parts"
    assert not (parts / "checkpoints" / "last").exists()
    train_text.train(config("parts", resume=True))
    file = Path("checkpoints") / "last" / "model.safetensors"
    assert (parts / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize(
    "name", ["write_samples", pytest.param("write_report", marks=pytest.mark.slow)]
)
def test_a_report_that_was_interrupted_is_written_by_a_resume(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = train_text.Config.of(text=str(texts), out=tmp_path / "run", **TEXT)
    with monkeypatch.context() as patch:
        stop_in(train_text, name, patch)
        with pytest.raises(Interrupted, match="report were written; --resume writes them"):
            train_text.main(config)
    assert (tmp_path / "run" / "DONE").exists()
    assert not (tmp_path / "run" / "report.html").exists()
    train_text.main(config.change(resume=True))
    assert (tmp_path / "run" / "report.html").exists()
    assert not leftovers(tmp_path / "run")


def test_reading_that_was_interrupted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_density.Config.of(data="digits", out=tmp_path / "run", steps=1)
    stop_in(train_density, "training_data", monkeypatch)
    with pytest.raises(Interrupted, match=r"^interrupted$"):
        train_density.train(config)
    assert not (tmp_path / "run").exists()


def tokenises(run: Path) -> bool:
    return any((run / "corpus").glob("ids*.partial"))


def validates(run: Path) -> bool:
    return (run / "metrics.jsonl").exists()  # the only step is logged, the validation is next


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "is_busy", "message"),
    [
        (400_000, tokenises, "interrupted before the first step; continue with --resume"),
        (400, validates, "interrupted after step 1; continue with --resume"),
    ],
)
def test_a_command_ends_with_130_within_seconds_and_one_line(
    tmp_path: Path, lines: int, is_busy: Callable[[Path], bool], message: str
) -> None:
    (tmp_path / "t.txt").write_text(
        "\n".join(f"the {i % 97} cat {i % 89} sees" for i in range(lines))
    )
    run = tmp_path / "run"
    options = {**TEXT, "steps": 1, "log_every": 1, "validation_texts": 20}
    options["validation_samples"] = 100_000  # minutes
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "experiments.train_text", "--text", str(tmp_path / "t.txt")]
    process = subprocess.Popen(
        [*command, "--out", str(run), *argv],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not is_busy(run):
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < LONGEST_ANSWER
    assert process.returncode == 130
    assert err.splitlines()[-1].endswith(message)
    assert "Traceback" not in err
    assert (run / "config.json").exists()
    assert not leftovers(run)
