"""A process that freezes or is killed ends the others soon, with one line; a launcher restarts all."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from experiments.training import heartbeats, silence
from experiments.training.heartbeats import (
    BEAT,
    BEATS_TO_TELL,
    PATIENCE,
    VARIABLE,
    Heartbeats,
    patience_of,
)
from experiments.training.silence import Silence, identity, processor_time
from univae.checkpoint import read_json
from univae.errors import InputError

MINUTE = 60.0
ROOT = Path(__file__).parents[3]

_WAITING = """
import sys, time
import torch
from experiments.training import distributed
from experiments.training.heartbeats import Heartbeats
distributed.Heartbeats = lambda *a: Heartbeats(*a, beat=0.1, patience=float(sys.argv[1]))
with distributed.join("cpu") as world:
    world.wait()
    print("joined", flush=True)
    if world.rank == int(sys.argv[3]):
        if len(sys.argv) > 4:  # a computation that does not give up Python's lock
            sys.setswitchinterval(float(sys.argv[2]))
            end = time.monotonic() + float(sys.argv[2])
            while time.monotonic() < end:
                pass
        else:
            time.sleep(float(sys.argv[2]))
    world.wait()
    print("ended", flush=True)
"""


def start_two(
    patience: float, sleep: float, asleep: int = 1, *, keeps_lock: bool = False
) -> list[subprocess.Popen]:
    """Start two processes, one of which sleeps, or computes, while the other waits."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", _WAITING, str(patience), str(sleep), str(asleep)]
            + ["lock"] * keeps_lock,
            env=os.environ | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_the_silence_that_is_borne_and_a_beat_are_less_than_a_minute() -> None:
    assert PATIENCE + (BEATS_TO_TELL + 1) * BEAT <= MINUTE


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize("holds_store", [False, True])
def test_a_frozen_or_killed_process_ends_the_other_with_one_line(
    number: int, holds_store: bool
) -> None:
    first, second = start_two(patience=4.0, sleep=3600.0, asleep=0 if holds_store else 1)
    assert first.stdout.readline() == second.stdout.readline() == "joined\n"
    start = time.monotonic()
    rank = 0 if holds_store else 1
    if holds_store:
        first, second = second, first
    second.send_signal(number)
    out, err = first.communicate(timeout=MINUTE)
    second.kill()
    second.communicate()
    assert out == ""
    assert time.monotonic() - start < MINUTE
    if number == signal.SIGSTOP:
        assert first.returncode == 2
        assert f"process {rank} has shown no sign of life for 4 s" in err
        assert "Traceback" not in err
    else:
        assert "PeerEnded: a process that this one trains with has ended" in err


@pytest.mark.slow
def test_a_process_that_is_slow_but_alive_is_waited_for() -> None:
    started = start_two(patience=3.0, sleep=9.0)
    outputs = [process.communicate(timeout=2 * MINUTE) for process in started]
    assert [out for out, _ in outputs] == ["joined\nended\n"] * 2, outputs
    assert [process.returncode for process in started] == [0, 0]


@pytest.mark.slow
def test_processes_that_are_all_suspended_together_train_on() -> None:
    started = start_two(patience=2.0, sleep=3.0)
    for process in started:
        assert process.stdout.readline() == "joined\n"
    time.sleep(1.0)  # some signs of life
    for process in started:
        process.send_signal(signal.SIGSTOP)
    time.sleep(6.0)
    for process in started:
        process.send_signal(signal.SIGCONT)
    outputs = [process.communicate(timeout=2 * MINUTE) for process in started]
    assert [out for out, _ in outputs] == ["ended\n"] * 2, outputs
    assert [process.returncode for process in started] == [0, 0]


@pytest.mark.slow
def test_a_process_that_keeps_pythons_lock_is_alive() -> None:
    started = start_two(patience=2.0, sleep=6.0, keeps_lock=True)
    outputs = [process.communicate(timeout=2 * MINUTE) for process in started]
    assert [out for out, _ in outputs] == ["joined\nended\n"] * 2, outputs


def test_a_silent_process_that_takes_processor_time_is_heard_until_it_is_stopped() -> None:
    command = [sys.executable, "-S", "-c", "print('began', flush=True)\nwhile True: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as busy:
        assert busy.stdout.readline() == "began\n"
        store = dist.TCPStore("127.0.0.1", 0, is_master=True)
        name = identity().rpartition(" ")[0]
        store.set("heartbeats/1/process", f"{name} {busy.pid}")
        watching = Heartbeats(store, 0, 2)  # not begun: it is asked here
        assert watching._is_heard()
        deadline = time.monotonic() + MINUTE
        while not watching._is_heard():
            assert time.monotonic() < deadline
        busy.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        watching._is_heard()
        time.sleep(0.1)
        assert not watching._is_heard()
        busy.kill()


def test_time_in_which_a_process_was_suspended_itself_is_no_silence_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(silence.time, "monotonic", lambda: now[0])
    heard = Silence(beat=5.0)
    for _ in range(4):
        now[0] += 6.0
        heard.count()
    assert heard.seconds == 24.0
    now[0] += 3600.0
    heard.count()
    assert heard.seconds == 0.0


def test_processor_time_is_known_of_processes_of_this_machine_alone() -> None:
    place, _, number = identity().rpartition(" ")
    assert int(number) == os.getpid()
    ticks = processor_time(identity())
    assert ticks is not None
    assert ticks > 0
    for other in (f"{place}x {number}", f"{place} 0", f"{place} x", "", "x"):
        assert processor_time(other) is None


def test_patience_is_that_of_the_environment_and_at_least_two_beats() -> None:
    assert patience_of({}) == patience_of({VARIABLE: ""}) == PATIENCE
    assert patience_of({VARIABLE: "300"}) == 300.0
    for value in ("x", "9", "-1", "nan", "inf"):
        with pytest.raises(InputError, match=f"{VARIABLE} must be a number of seconds"):
            patience_of({VARIABLE: value})


def test_a_silent_successor_is_reported_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(heartbeats.os, "_exit", ended.append)
    written = []
    monkeypatch.setattr(heartbeats.os, "write", lambda _, line: written.append(line.decode()))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True)
    three = [Heartbeats(store, rank, 3, beat=0.05, patience=1.0) for rank in (0, 1)]
    with three[0], three[1]:  # the third never beats
        deadline = time.monotonic() + MINUTE
        while len(set(written)) < 1 or len(ended) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert set(ended) == {heartbeats.EXIT_CODE}
    assert all("process 2 has shown no sign of life for 1 s" in line for line in written)


@pytest.mark.slow
def test_a_launcher_that_restarts_its_processes_continues_the_run(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(200, 4)))
    out = tmp_path / "run"
    options = (
        f"--data {tmp_path}/rows.npy --out {out} --latents 3 --hidden 8 --batch-size 4 --threads 1 "
        "--validate-every 0 --validation-samples 2 --validation-data 20 --checkpoint-every 5"
    ).split()
    launcher = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "2",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["-m", "experiments.train_density", *options]
    whole = [sys.executable, "-m", *launcher, *command]
    subprocess.run([*whole, "--steps", "10"], env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        [*whole, "--steps", "300", "--resume"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    state = out / "checkpoints" / "last" / "state.json"
    deadline = time.monotonic() + 3 * MINUTE
    while not state.exists() or read_json(state)["step"] < 30:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(rank_of(process.pid, 1), signal.SIGKILL)
    _, err = process.communicate(timeout=5 * MINUTE)
    assert process.returncode == 0, err
    assert read_json(out / "DONE")["steps"] == 300
    assert len(read_json(out / "environment.json")["resumed"]) == 2  # by hand, and restarted


def rank_of(parent: int, rank: int) -> int:
    """The process id of a rank of a launcher."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return int(child)
    raise AssertionError(f"no process of rank {rank}")
