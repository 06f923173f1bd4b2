"""How long another process has been silent, and whether it computes meanwhile."""

import os
import time
from pathlib import Path

__all__ = ["Silence", "identity", "processor_time"]

_LONGEST = 2  # beats between two beats, of a process that was not suspended itself
_USER_TIME = 11  # field of /proc/PID/stat after the name, with that of the system after it


class Silence:
    """The seconds without a sign of life, counted in the beats of the process that listens.

    A process that was suspended itself, or could not run, has heard nothing because of that: it
    counts anew.

    Args:
        beat: seconds between two calls of :meth:`count`.
    """

    def __init__(self, beat: float) -> None:
        self.seconds = 0.0
        self._beat = beat
        self._counted = time.monotonic()

    def count(self) -> None:
        """Add the time since the last call, unless that is more than two beats."""
        now = time.monotonic()
        elapsed = now - self._counted
        self._counted = now
        self.seconds = 0.0 if elapsed > _LONGEST * self._beat else self.seconds + elapsed

    def end(self) -> None:
        """Count anew: there was a sign of life."""
        self.seconds = 0.0


def identity() -> str:
    """Return what names this process among all, for :func:`processor_time`; empty where unknown.

    It begins with the start of the machine and the namespace of its process numbers.
    """
    return f"{_place()} {os.getpid()}" if _place() else ""


def processor_time(name: str) -> int | None:
    """Return the ticks of processor time of a process of :func:`identity`.

    None where it has ended, or cannot be seen from here: on another machine, in another container,
    or on a system without ``/proc``.
    """
    place, _, number = name.rpartition(" ")
    if not place or place != _place():
        return None
    try:
        stat = Path(f"/proc/{int(number)}/stat").read_text()
    except (OSError, ValueError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name, in parentheses, may hold anything
    return int(fields[_USER_TIME]) + int(fields[_USER_TIME + 1])


def _place() -> str:
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
