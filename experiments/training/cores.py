"""The processor cores that this process may use, and how many of them other programs keep busy.

Each function reads what the operating system offers and passes over what it lacks, so that there is
an answer on every machine. PyTorch is not imported.
"""

import os
import time
from pathlib import Path

from experiments.training.cgroups import cpu_quota, read_text

__all__ = ["allowed_cores", "busy_cores", "lasting_load", "usable_cores"]

TOPOLOGY = Path("/sys/devices/system/cpu")
STATISTICS = Path("/proc/stat")
SAMPLE = 0.1  # seconds; the kernel counts in hundredths

# Columns of /proc/stat behind the name of a core: user, nice, system, idle, iowait, irq, softirq,
# steal. Programs of low priority (nice) give way, and so do not count as busy.
COLUMNS = 8
FREE_COLUMNS = (1, 3, 4)


def usable_cores(busy: int = 0) -> int:
    """Return how many threads can run at once: the allowed cores, within the quota; at least 1.

    Args:
        busy: how many of the allowed cores other programs use. A quota is this process's own: they
            take nothing of it, as long as enough cores are free.
    """
    quota = cpu_quota()
    cores = max(1, allowed_cores() - busy)
    return cores if quota is None else max(1, min(cores, int(quota)))


def allowed_cores() -> int:
    """Return the number of physical cores that the affinity mask of this process allows.

    Logical cores that share a physical one count once, where the system says which do.
    """
    numbers = _allowed()
    if not numbers:
        return os.cpu_count() or 1
    siblings = {
        read_text(TOPOLOGY / f"cpu{n}" / "topology" / "thread_siblings_list") for n in numbers
    }
    return len(numbers) if "" in siblings else len(siblings)


def lasting_load() -> float:
    """Return the mean number of running programs in the last five minutes; 0 if unknown."""
    try:
        return os.getloadavg()[1]
    except (AttributeError, OSError):  # Windows has none
        return 0.0


def busy_cores(seconds: float = SAMPLE) -> float:
    """Return how many of the allowed logical cores are busy, measured while this process sleeps.

    It is 0 where the system does not say.
    """
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    busy = 0.0
    for number, ticks in after.items():
        passed = [new - old for new, old in zip(ticks, before.get(number, ticks), strict=True)]
        total = sum(passed)
        free = sum(passed[column] for column in FREE_COLUMNS)
        busy += (total - free) / total if total > 0 else 0.0
    return busy


def _allowed() -> set[int]:
    """Return the numbers of the cores of the affinity mask; none where there is no such mask."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    try:
        return set(os.sched_getaffinity(0))
    except OSError:
        return set()


def _ticks() -> dict[int, list[int]]:
    """Return the times of every allowed core, in hundredths of a second."""
    allowed = _allowed()
    ticks = {}
    for line in read_text(STATISTICS).splitlines():
        name, *columns = line.split()
        number = name.removeprefix("cpu")
        if name.startswith("cpu") and number.isdigit() and int(number) in allowed:
            ticks[int(number)] = [int(column) for column in columns[:COLUMNS]]
    return ticks
