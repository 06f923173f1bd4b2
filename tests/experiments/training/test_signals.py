"""Signals end a command at any moment, by one line and one exit code, and none is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from experiments import train_density
from experiments.cli import commands
from experiments.training.stopping import Interrupted, StopRequest
from univae.interruptible import call_interruptibly

ROOT = Path(__file__).parents[3]
LONGEST_ANSWER = 30.0  # seconds, on a machine that runs other tests too
LONGEST_START = 120  # seconds


@pytest.fixture(autouse=True)
def hangs_up() -> Iterator[None]:
    """Do not ignore SIGHUP, as a process that nohup started does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_asks_to_stop_and_the_handlers_from_before_return(number: int) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        send(number)
        assert stop.requested
    assert signal.getsignal(number) == before


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            send(signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_at_the_end_of_a_block_stops_the_one_around_it() -> None:
    reached = []

    def nested() -> None:
        with StopRequest(at_once=True):
            with StopRequest() as inner:
                send(signal.SIGTERM)
                reached.append(inner.requested)
            reached.append("after")

    with pytest.raises(Interrupted):
        nested()
    assert reached == [True]
    with StopRequest() as outer:
        with StopRequest():
            send(signal.SIGTERM)
        assert outer.requested  # it answers after its step


def test_an_exception_that_was_swallowed_is_raised_again_by_the_next_signal() -> None:
    with StopRequest(0.0, at_once=True):
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


def test_a_signal_ends_the_wait_for_a_call_that_python_cannot_interrupt() -> None:
    ended = threading.Event()
    timer = threading.Timer(0.1, send, [signal.SIGTERM])
    with StopRequest(at_once=True):
        timer.start()
        with pytest.raises(Interrupted):
            call_interruptibly(lambda: ended.wait(30))
    ended.set()


def test_what_an_interruptible_call_raises_is_raised() -> None:
    done: list[int] = []
    call_interruptibly(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        call_interruptibly(lambda: 1 / 0)


@pytest.mark.parametrize("kind", [ValueError, OSError])
def test_an_interruption_that_a_library_has_turned_into_another_error_is_recognised(
    kind: type[Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(config: object) -> NoReturn:
        try:
            send(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise kind("could not determine the shape") from error
        raise AssertionError

    monkeypatch.setattr(commands, "parse", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        commands.run(object, act, [], "univae sample")
    assert end.value.code == 130
    assert capsys.readouterr().err == "univae sample: interrupted\n"


def test_a_signal_while_libraries_are_imported_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\n"
    (tmp_path / "slow_command.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(commands.COMMANDS, "slow", ("slow_command", "a test"))
    with pytest.raises(SystemExit) as end:
        commands.main(["slow"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "univae: interrupted\n"


def started(*words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", *words],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # nohup ignores it
        **options,
    )


def answer(process: subprocess.Popen[str], number: int) -> str:
    """Send a signal, and return what the process prints before it ends by 130."""
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=LONGEST_ANSWER)
    finally:
        process.kill()  # no effect on a process that has ended
    assert "Traceback" not in err
    assert process.returncode == 130
    return err


def when(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(50 * LONGEST_START):
        if is_so():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_a_hangup_while_a_large_vocabulary_is_learned_is_answered(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    lines = (" ".join(letters[(i * k) % 26 :] for k in (3, 5, 7)) for i in range(1000))
    words = [f"{line} {hash((i, line)) % 10**12:x}" for i, line in enumerate(lines)]
    (tmp_path / "t.txt").write_text("\n".join(words * 20))
    run = tmp_path / "run"
    options = ("--text", str(tmp_path / "t.txt"), "--out", str(run), "--tokenizer", "bpe")
    process = started("train-text", *options, "--vocab-size", "60000")
    when((run / "checkpoints").exists, process)
    time.sleep(1)
    assert not (run / "tokenizer.json").exists()
    err = answer(process, signal.SIGHUP)
    assert "interrupted before the first step; continue with --resume" in err


@pytest.mark.slow
def test_a_command_that_scores_leaves_nothing_when_it_is_terminated(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = tmp_path / "run"
    options = {"latents": (3,), "hidden": (16,), "steps": 1, "validation_samples": 2}
    train_density.train(train_density.Config.of(data="digits", out=run, **options))
    out = tmp_path / "scores.csv"
    scoring = started(
        "likelihood", str(run), "--data", "digits", "--samples", "100000", "--out", str(out)
    )
    when(lambda: any(path.name.endswith(".new") for path in tmp_path.iterdir()), scoring)
    answer(scoring, signal.SIGTERM)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
