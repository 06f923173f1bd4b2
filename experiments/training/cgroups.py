"""The limits of the control groups of this process, as Linux and its containers set them."""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["CGROUP", "MOUNT", "cpu_quota", "memory_limit", "read_text"]

CGROUP = Path("/proc/self/cgroup")  # the groups of this process
MOUNT = Path("/sys/fs/cgroup")  # where the groups are mounted
UNLIMITED = 2**60  # bytes; version 1 writes a number above it where there is no limit


def cpu_quota(cgroup: Path = CGROUP, mount: Path = MOUNT) -> float | None:
    """Return how many cores the groups of this process may use on average; None: no limit.

    The smallest quota of a group and of those around it holds, in both versions of cgroups.
    """
    quotas = []
    for group in _groups("cpu", cgroup, mount):
        quotas.append(_quota(*read_text(group / "cpu.max").partition(" ")[::2]))
        period = read_text(group / "cpu.cfs_period_us")
        quotas.append(_quota(read_text(group / "cpu.cfs_quota_us"), period))
    return min((quota for quota in quotas if quota > 0), default=None)


def memory_limit(cgroup: Path = CGROUP, mount: Path = MOUNT) -> int | None:
    """Return the bytes of memory that the groups of this process leave to it; None: no limit.

    Files that the kernel keeps in memory and has not read again lately are free: it drops them
    where memory is needed.
    """
    free = []
    for group in _groups("memory", cgroup, mount):
        for limit, usage, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most = read_text(group / limit)
            used = read_text(group / usage)
            if most.isdigit() and used.isdigit() and int(most) < UNLIMITED:
                needed = max(0, int(used) - _row(group / "memory.stat", cache))
                free.append(max(0, int(most) - needed))
    return min(free, default=None)


def read_text(path: Path) -> str:
    """Return the text of a file of the system; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _groups(controller: str, cgroup: Path, mount: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups that a controller may limit."""
    for line in read_text(cgroup).splitlines():
        controllers, _, name = line.partition(":")[2].partition(":")
        if not controllers:  # version 2, alone or beside version 1
            yield from _upwards(mount, name)
            yield from _upwards(mount / "unified", name)
        elif controller in controllers.split(","):
            yield from _upwards(mount / controllers, name)
            yield from _upwards(mount / controller, name)


def _upwards(root: Path, name: str) -> Iterator[Path]:
    """Yield the folder of a group and those of the groups around it, up to the root."""
    group = root / name.lstrip("/")
    while group != root and root in group.parents:
        yield group
        group = group.parent
    yield root


def _row(path: Path, name: str) -> int:
    """Return the number in the row of a file that starts with a name; 0 where there is none."""
    for line in read_text(path).splitlines():
        key, _, number = line.partition(" ")
        if key == name and number.isdigit():
            return int(number)
    return 0


def _quota(used: str, period: str) -> float:
    """Return cores from microseconds of use and of the period; 0 without a limit."""
    if not used.isdigit() or not period.isdigit() or int(period) == 0:
        return 0.0
    return int(used) / int(period)
