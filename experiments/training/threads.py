"""The number of processor threads of a training: as many as the machine has free, once chosen kept.

Sums are split among threads, and another split rounds differently. So the number that a run was
started with is stored in ``environment.json``, and a resumed run uses it again.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.data.notes import print_notes
from experiments.training.cores import busy_cores, lasting_load, usable_cores
from experiments.training.distributed import World
from experiments.training.environment import stored_environment
from experiments.training.processes import local_process_count
from univae.errors import InputError
from univae.rules import OTHER_VERSION, Rule, at_least

__all__ = ["THREADS", "Choice", "choose_threads", "started_threads", "threads_of_run"]

MOST = 1024
THREADS: Rule = at_least(0, MOST, "0 (the free cores of this machine) or more")

VARIABLE = "OMP_NUM_THREADS"


class Choice(NamedTuple):
    """A number of threads, and why it is that."""

    threads: int
    reason: str
    is_reduced: bool = False  # because of other programs


def choose_threads() -> Choice:
    """Return the number of threads of a training that is started with ``--threads 0``.

    ``OMP_NUM_THREADS`` decides where the user has set it. Otherwise there is one thread for each

    - physical core that the affinity mask of the process allows,
    - but for the cores that other programs keep busy: the smaller of the load average of five
      minutes and of what is busy at this moment, so that neither a short burst nor an earlier
      training counts,
    - within the CPU quota of its cgroups, rounded down, and PyTorch's own number,

    shared by the processes that ``torchrun`` started on this machine; at least 1. ``torchrun``
    sets ``OMP_NUM_THREADS=1`` where it is not set: this value is taken for its own, and
    ``--threads 1`` insists on one thread.
    """
    processes = local_process_count()
    variable = os.environ.get(VARIABLE, "")
    by_torchrun = processes > 1 and variable == "1"
    if variable and not by_torchrun:
        return Choice(torch.get_num_threads(), f"{VARIABLE}={variable}")
    most = MOST if by_torchrun else torch.get_num_threads()
    cores = min(most, usable_cores())
    free = min(most, usable_cores(_busy_cores()))
    count = max(1, free // processes)
    reason = f"{_counted(cores, 'usable core')}"
    if free < cores:
        reason += f", {free} not busy with other programs"
    if processes > 1:
        reason += f", shared by {processes} processes"
    return Choice(count, reason, is_reduced=count < max(1, cores // processes))


def started_threads(run: Path) -> int:
    """Return the number of threads that a run was started with; 0 where it is not stored.

    Raises:
        InputError: ``environment.json`` of the run is damaged.
    """
    count = stored_environment(run).get("threads", 0)
    if not isinstance(count, int) or THREADS(count):
        path = run / "environment.json"
        raise InputError(f"{path}: threads must be a number up to {MOST}; {OTHER_VERSION}")
    return count


@contextmanager
def threads_of_run(threads: int, resumed: Path | None, world: World) -> Iterator[int]:
    """Let PyTorch use the number of threads of a run while the block runs.

    The first process decides for all.

    Args:
        threads: the option ``--threads``; 0: as the run was started, or :func:`choose_threads`.
        resumed: the folder of the run where it is resumed, else None.
        world: the processes.

    Raises:
        InputError: the machine cannot start so many threads.
    """
    decided = _decide(threads, resumed) if world.first else 0
    count = int(world.total([decided])[0])
    _require_startable(count)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


def _decide(threads: int, resumed: Path | None) -> int:
    if threads:
        return threads
    started = started_threads(resumed) if resumed is not None else 0
    if started:
        cores = usable_cores()
        if cores < started:
            print_notes(
                [
                    f"the run continues with the {started} threads that it was started with, for "
                    f"the same weights; this machine has {_counted(cores, 'usable core')}"
                ]
            )
        return started
    choice = choose_threads()
    if choice.is_reduced:
        number = _counted(choice.threads, "thread")
        print_notes([f"{number}: {choice.reason}; --threads sets another number"])
    return choice.threads


def _busy_cores() -> int:
    """Return how many cores other programs have kept busy for minutes, and still do."""
    load = lasting_load()
    if round(load) == 0:
        return 0
    return round(min(load, busy_cores()))


def _require_startable(count: int) -> None:
    """Start ``count`` threads in all and end them: OpenMP ends a process that cannot.

    Raises:
        InputError: a limit of the machine, the user or the container is lower.
    """
    release = threading.Event()
    started: list[threading.Thread] = []
    try:
        while len(started) < count - 1:
            thread = threading.Thread(target=release.wait)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise InputError(
            f"threads must be at most {len(started) + 1}: this machine starts no more for this "
            f"process; got threads={count}"
        ) from error
    finally:
        release.set()
        for thread in started:
            thread.join()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
