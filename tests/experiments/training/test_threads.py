"""Threads: what the machine allows is read, a run keeps its number, and its weights with it."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import train_text
from experiments.training import cores, threads
from experiments.training.cgroups import cpu_quota, memory_limit
from experiments.training.cores import allowed_cores, busy_cores, usable_cores
from experiments.training.distributed import World
from experiments.training.length import length_notes, train_on
from experiments.training.threads import choose_threads, started_threads, threads_of_run
from tests.experiments.training.test_loop import SETTINGS, Toy, train
from univae.errors import InputError

TEXTS = Path(__file__).parents[2] / "golden" / "data" / "texts.txt"
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A quiet machine of eight cores, whose number PyTorch has not been told."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda busy=0: max(1, 8 - busy))
    monkeypatch.setattr(threads, "lasting_load", lambda: 0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    return monkeypatch


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_smallest_quota_of_nested_groups_holds_in_both_versions(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    mount = tmp_path / "fs"
    write(cgroup, "0::/a/b\n")
    assert cpu_quota(cgroup, mount) is None
    write(mount / "a" / "b" / "cpu.max", "max 100000\n")
    assert cpu_quota(cgroup, mount) is None
    write(mount / "a" / "cpu.max", "150000 100000\n")
    assert cpu_quota(cgroup, mount) == 1.5
    write(mount / "cpu.max", "50000 100000\n")  # as a container sees its own group
    assert cpu_quota(cgroup, mount) == 0.5

    write(cgroup, "3:cpuset:/\n2:cpu,cpuacct:/box/inner\n")
    assert cpu_quota(cgroup, mount) is None
    write(mount / "cpu,cpuacct" / "box" / "inner" / "cpu.cfs_quota_us", "-1")
    write(mount / "cpu,cpuacct" / "box" / "inner" / "cpu.cfs_period_us", "100000")
    assert cpu_quota(cgroup, mount) is None
    write(mount / "cpu,cpuacct" / "box" / "cpu.cfs_quota_us", "300000")
    write(mount / "cpu,cpuacct" / "box" / "cpu.cfs_period_us", "100000")
    assert cpu_quota(cgroup, mount) == 3.0


def test_memory_that_the_groups_leave_is_the_smallest_rest(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    mount = tmp_path / "fs"
    write(cgroup, "0::/a\n4:memory:/b\n")
    assert memory_limit(cgroup, mount) is None
    write(mount / "a" / "memory.max", "1000")
    write(mount / "a" / "memory.current", "300")
    assert memory_limit(cgroup, mount) == 700
    write(mount / "a" / "memory.stat", "anon 50\ninactive_file 200\nactive_file 40\n")
    assert memory_limit(cgroup, mount) == 900  # files that the kernel can drop are free
    write(mount / "a" / "memory.stat", "inactive_file 0\n")
    write(mount / "memory" / "b" / "memory.limit_in_bytes", str(2**63 - 4096))
    write(mount / "memory" / "b" / "memory.usage_in_bytes", "100")
    assert memory_limit(cgroup, mount) == 700
    write(mount / "memory" / "memory.limit_in_bytes", "500")
    write(mount / "memory" / "memory.usage_in_bytes", "600")
    assert memory_limit(cgroup, mount) == 0
    write(mount / "memory" / "memory.stat", "inactive_file 9\ntotal_inactive_file 450\n")
    assert memory_limit(cgroup, mount) == 350


def test_a_machine_that_says_nothing_has_all_its_cores_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    for name in ("TOPOLOGY", "STATISTICS"):
        monkeypatch.setattr(cores, name, tmp_path / "nothing")
    assert cpu_quota(tmp_path / "nothing", tmp_path) is None
    assert allowed_cores() == os.cpu_count()
    assert busy_cores(0.0) == 0.0
    assert cores.lasting_load() == 0.0
    assert choose_threads().threads >= 1


@pytest.mark.parametrize(("quota", "usable"), [(None, 4), (9.0, 4), (2.9, 2), (0.5, 1)])
def test_a_quota_is_rounded_down_and_at_least_one_core_is_usable(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, usable: int
) -> None:
    monkeypatch.setattr(cores, "allowed_cores", lambda: 4)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert usable_cores() == usable


@pytest.mark.parametrize(("busy", "count"), [(0, 4), (3, 4), (12, 4), (14, 2), (40, 1)])
def test_busy_cores_leave_a_quota_whole_as_long_as_enough_of_the_machine_is_free(
    machine: pytest.MonkeyPatch, busy: int, count: int
) -> None:
    machine.setattr(threads, "usable_cores", usable_cores)
    machine.setattr(cores, "allowed_cores", lambda: 16)
    machine.setattr(cores, "cpu_quota", lambda: 4.5)
    machine.setattr(threads, "_busy_cores", lambda: busy)
    words = "4 usable cores" + (f", {count} not busy with other programs" if count < 4 else "")
    assert choose_threads() == (count, words, count < 4)


def test_cores_are_the_physical_ones_of_the_affinity_mask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5}, raising=False)
    monkeypatch.setattr(cores, "TOPOLOGY", tmp_path)
    assert allowed_cores() == 4  # without a topology
    for number, siblings in {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}.items():
        write(tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list", siblings)
    assert allowed_cores() == 2


def test_busy_cores_are_those_of_the_mask_without_idle_and_low_priority(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = (
        "cpu  0 0 0 0\ncpu0 10 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0"
    )
    #                user nice system idle iowait irq softirq steal
    after = "cpu0 18 0 2 0 0 0 0 0 0 0\ncpu1 0 5 0 2 1 0 1 1 0 0\ncpu2 9 0 0 0 0 0 0 0"
    path = tmp_path / "stat"
    path.write_text(before, encoding="utf-8")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(cores, "STATISTICS", path)
    monkeypatch.setattr(cores.time, "sleep", lambda _: path.write_text(after, encoding="utf-8"))
    assert busy_cores() == pytest.approx(1.0 + 0.2)


def test_free_cores_are_shared_by_the_processes_of_this_machine(
    machine: pytest.MonkeyPatch,
) -> None:
    assert choose_threads() == (8, "8 usable cores", False)
    machine.setenv("LOCAL_WORLD_SIZE", "3")
    assert choose_threads() == (2, "8 usable cores, shared by 3 processes", False)
    machine.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it
    machine.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_threads().threads == 2
    machine.setenv("LOCAL_WORLD_SIZE", "20")
    assert choose_threads() == (1, "8 usable cores, shared by 20 processes", False)


def test_the_users_variable_wins_and_so_does_pytorchs_smaller_number(
    machine: pytest.MonkeyPatch,
) -> None:
    machine.setattr(torch, "get_num_threads", lambda: 5)
    assert choose_threads().threads == 5
    machine.setenv("OMP_NUM_THREADS", "12")
    machine.setattr(torch, "get_num_threads", lambda: 12)  # as PyTorch reads it
    assert choose_threads() == (12, "OMP_NUM_THREADS=12", False)
    machine.setenv("LOCAL_WORLD_SIZE", "2")
    assert choose_threads().threads == 12


@pytest.mark.parametrize(
    ("load", "now", "count"),
    [(3.2, 3.0, 5), (3.2, 0.0, 8), (0.0, 8.0, 8), (1.0, 8.0, 7), (40.0, 7.9, 1)],
)
def test_only_cores_that_are_busy_for_minutes_and_still_are_get_no_thread(
    machine: pytest.MonkeyPatch, load: float, now: float, count: int
) -> None:
    machine.setattr(threads, "lasting_load", lambda: load)
    machine.setattr(threads, "busy_cores", lambda: now)
    assert choose_threads().threads == count
    assert choose_threads().is_reduced == (count < 8)


def test_a_resumed_run_keeps_its_number_and_the_block_restores_pytorchs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "environment.json", json.dumps({"threads": 3}))
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    before = torch.get_num_threads()
    assert started_threads(tmp_path) == 3
    with threads_of_run(0, tmp_path, ALONE) as count:
        assert count == torch.get_num_threads() == 3
    assert torch.get_num_threads() == before
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(threads, "usable_cores", lambda busy=0: 1)
    with threads_of_run(0, tmp_path, ALONE):
        assert torch.get_num_threads() == 3
    assert capsys.readouterr().err == (
        "note: the run continues with the 3 threads that it was started with, for the same "
        "weights; this machine has 1 usable core\n"
    )
    with threads_of_run(2, tmp_path, ALONE) as count:
        assert count == 2
    with threads_of_run(0, tmp_path / "new", ALONE) as count:
        assert count == 1


@pytest.mark.parametrize("value", ["4", -1, 1e3, 2000, None])
def test_a_damaged_number_of_threads_is_refused(tmp_path: Path, value: object) -> None:
    write(tmp_path / "environment.json", json.dumps({"threads": value}))
    with pytest.raises(InputError, match=r"environment\.json: threads must be a number up to 1024"):
        started_threads(tmp_path)


def test_fewer_threads_for_other_programs_are_noted(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.setattr(threads, "lasting_load", lambda: 7.0)
    machine.setattr(threads, "busy_cores", lambda: 7.0)
    with threads_of_run(0, None, ALONE) as count:
        assert count == 1
    assert capsys.readouterr().err == (
        "note: 1 thread: 8 usable cores, 1 not busy with other programs; "
        "--threads sets another number\n"
    )


def test_threads_that_the_machine_does_not_start_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenMP would end the process."""
    start = threading.Thread.start
    calls: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(calls) == 5:
            raise RuntimeError("can't start new thread")
        calls.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    before = torch.get_num_threads()
    refused = pytest.raises(InputError, match=r"threads must be at most 6: .* got threads=9")
    with refused, threads_of_run(9, None, ALONE):
        pass
    assert torch.get_num_threads() == before
    assert not any(thread.is_alive() for thread in calls)


def trained(out: Path, variable: int, **options: object) -> Path:
    """Train as in a process that ``OMP_NUM_THREADS=variable`` started."""
    common: dict[str, object] = {
        "text": str(TEXTS), "tokenizer": "words", "width": 64, "heads": 2, "batch_tokens": 1024,
        "layers": 1, "latent_layers": 1, "latent_width": 4, "max_length": 16, "calibration": 0.0,
        "validation_texts": 2, "validation_samples": 1, "validate_every": 0, "lr_floor": 1.0,
        "warmup": 0.0, "out": out,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(variable))
        torch.set_num_threads(variable)
        train_text.train(train_text.Config.of(**common, **options))
    return out


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("unchecked")
def test_a_run_stopped_and_resumed_with_another_variable_ends_in_the_same_weights(
    tmp_path: Path,
) -> None:
    torch.set_default_dtype(torch.float32)
    whole = trained(tmp_path / "whole", 2, steps=4)
    single = trained(tmp_path / "single", 1, steps=4)
    assert weights(single) != weights(whole)  # another split of sums

    resumed = trained(tmp_path / "resumed", 2, steps=2)
    trained(resumed, 1, steps=4, resume=True)
    assert weights(resumed) == weights(whole)
    environment = json.loads((resumed / "environment.json").read_text(encoding="utf-8"))
    assert environment["threads"] == environment["resumed"][0]["threads"] == 2
    assert json.loads((resumed / "config.json").read_text(encoding="utf-8"))["threads"] == 0


def test_an_explicit_number_is_kept_by_a_resume_without_it_and_another_is_refused(
    tmp_path: Path,
) -> None:
    torch.set_default_dtype(torch.float32)
    run = trained(tmp_path / "run", 1, steps=2, threads=2)
    trained(run, 1, steps=3, resume=True)
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert environment["resumed"][0]["threads"] == 2
    with pytest.raises(InputError, match="threads: 2 -> 1; leave"):
        trained(run, 1, steps=4, threads=1, resume=True)


def test_a_number_that_the_machine_chose_may_be_given_and_no_other(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = trained(tmp_path / "run", 2, steps=2)
    trained(run, 1, steps=3, threads=2, resume=True)
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert environment["resumed"][0]["threads"] == 2
    with pytest.raises(InputError, match="threads: 2 -> 1; leave"):
        trained(run, 1, steps=4, threads=1, resume=True)


def test_a_task_is_trained_with_the_threads_of_its_settings_which_end_with_it(
    tmp_path: Path,
) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    task = Toy()
    task.hooks = dict.fromkeys(range(4), lambda: seen.append(torch.get_num_threads()))
    train(tmp_path / "run", replace(SETTINGS, steps=4, threads=before + 1), task)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("content", ["[]", '{"lengths": 3}', '{"resumed": [1]}', "{"])
def test_a_damaged_environment_is_refused_by_name_wherever_it_is_read(
    tmp_path: Path, content: str
) -> None:
    _, _, run = train(tmp_path / "run", replace(SETTINGS, threads=0))
    write(run.path / "environment.json", content)
    readers: list[Callable[[], object]] = [
        lambda: started_threads(run.path),
        lambda: length_notes(run),
        run.record_resume,
        lambda: train_on(run, run.config, 1),
        lambda: train(run.path, replace(SETTINGS, threads=0, resume=True)),
    ]
    for read in readers:
        with pytest.raises(InputError, match=r"run.environment\.json: "):
            read()
