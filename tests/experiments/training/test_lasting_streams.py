"""A reader of stderr that is gone, or was never there, costs no training and no exit code."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from experiments.data.notes import print_notes
from experiments.training import stopping
from experiments.training.stopping import Interrupted, StopRequest
from experiments.training.streams import lasting_streams
from tests.experiments.training.test_loop import SETTINGS, Toy, train

ROOT = Path(__file__).parents[3]
# under nohup, as some servers run tests, children would ignore SIGHUP
HANGS_UP = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
LONGEST = 60.0  # seconds, on a machine that runs other tests too


@contextmanager
def reader_gone(patch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let stderr, whose descriptor is yielded, be a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    with patch.context() as inner, os.fdopen(writer, "w", encoding="utf-8") as stream:
        inner.setattr(sys, "stderr", stream)
        inner.setattr(stopping, "STDERR", writer)
        yield writer


def test_a_step_that_is_interrupted_with_the_reader_of_stderr_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Toy()
    task.hooks = {2: lambda: os.kill(os.getpid(), signal.SIGINT)}
    interrupted = pytest.raises(Interrupted, match="after step 3; continue with --resume")
    with reader_gone(monkeypatch), interrupted:
        train(tmp_path / "run", replace(SETTINGS, checkpoint_every=0), task)
    assert (tmp_path / "run" / "checkpoints" / "last" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "ERROR.json").exists()


def test_what_is_written_to_a_closed_pipe_is_discarded_and_never_again_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with reader_gone(monkeypatch) as descriptor:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested
        with lasting_streams(), lasting_streams():
            print_notes(["a note"])
            print("a line", file=sys.stderr, flush=True)
        assert os.write(descriptor, b"into the null device") == 20
        print("what Python flushes at exit", file=sys.stderr, flush=True)


def test_an_error_of_another_kind_is_no_reader_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", full)
    with lasting_streams(), pytest.raises(OSError, match="No space left"):
        print("a line", file=sys.stderr, flush=True)
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_streams_that_are_missing_are_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    with lasting_streams():
        print("a line", file=sys.stderr)
        assert sys.stdout.encoding
    assert sys.stderr is sys.stdout is None


@pytest.mark.parametrize(
    ("number", "terminal"),
    [(signal.SIGHUP, True), pytest.param(signal.SIGINT, False, marks=pytest.mark.slow)],
)
def test_a_command_whose_terminal_or_tee_is_gone_saves_its_steps_and_ends_with_130(
    tmp_path: Path, number: int, terminal: bool
) -> None:
    (tmp_path / "t.txt").write_text("\n".join(f"the {i % 97} cat {i % 89}" for i in range(400)))
    run = tmp_path / "run"
    words = "--tokenizer words --width 16 --heads 2 --layers 2 --latent-width 4 --threads 1"
    words += " --steps 1000000 --checkpoint-every 0 --validate-every 0 --log-every 1"
    command = [sys.executable, "-m", "experiments.train_text", "--text", str(tmp_path / "t.txt")]
    command += ["--out", str(run), *words.split()]
    reader, writer = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, cwd=ROOT,
        start_new_session=True, preexec_fn=HANGS_UP,
    )  # fmt: skip
    os.close(writer)
    try:
        start = time.monotonic()
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None
            assert time.monotonic() - start < LONGEST
            time.sleep(0.02)
        os.close(reader)
        process.send_signal(number)  # none to a process that has ended
        assert process.wait(LONGEST) == 130
    finally:
        process.kill()
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    assert state["step"] >= 1
    assert not (run / "ERROR.json").exists()


@pytest.mark.slow
def test_a_command_with_closed_streams_does_its_work(tmp_path: Path) -> None:
    univae = f"{shlex.quote(sys.executable)} -m univae"
    command = f"{univae} doctor --seconds 0 2>&- > out.json && {univae} --version >&- 2>&-"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment).returncode == 0
    assert "versions" in json.loads((tmp_path / "out.json").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_module_that_is_still_importing_ends_with_130_and_a_line(
    tmp_path: Path, number: int
) -> None:
    """A ``torch`` that sends the signal stands in for one that takes long to import."""
    (tmp_path / "torch.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.likelihood", "--help"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path, capture_output=True, text=True, preexec_fn=HANGS_UP,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
