"""Commands in forked processes, which need not import the libraries again."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.operations import count_operations

__all__ = ["Ending", "run"]

LONGEST = 120.0  # seconds of a command; a longer one is stuck


class Ending(NamedTuple):
    """How a process ended."""

    code: int  # exit code; minus the signal that killed it
    words: str  # what it printed
    operations: int  # file operations, of a process that ended by itself
    seconds: float


def run(
    action: Callable[[], object],
    folder: Path,
    *,
    kill_at: int = 0,
    kill_after: float | None = None,
    number: int = signal.SIGKILL,
    largest_file: int | None = None,
) -> Ending:
    """Call ``action`` in a forked process whose working directory is ``folder``.

    Args:
        action: ends the process, or returns.
        folder: where file operations are counted.
        kill_at: the operation before which the process kills itself; 0: none.
        kill_after: seconds after which a signal is sent to it.
        number: that signal.
        largest_file: bytes beyond which writing to a file fails (EFBIG), as on a full disk.
    """
    output = folder.parent / f"{folder.name}.out"
    counted = folder.parent / f"{folder.name}.count"
    counted.unlink(missing_ok=True)
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        _become(action, folder, kill_at, output, counted)
    status = _wait(process, start, kill_after, number)
    code = os.waitstatus_to_exitcode(status)
    operations = int(counted.read_text()) if counted.exists() else 0
    words = output.read_text(errors="replace")
    return Ending(code, words, operations, time.monotonic() - start)


def _become(
    action: Callable[[], object], folder: Path, kill_at: int, output: Path, counted: Path
) -> None:
    """Run the action in this process, which a fork has made, and end it."""
    code = 0
    try:
        os.chdir(folder)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        count = count_operations(folder, kill_at)
        action()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    total = count()
    counted.write_text(str(total))
    os._exit(code)


def _wait(process: int, start: float, kill_after: float | None, number: int) -> int:
    """Return the status of a process that has ended; kill it where that takes too long."""
    is_sent = kill_after is None
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        elapsed = time.monotonic() - start
        if not is_sent and kill_after is not None and elapsed >= kill_after:
            os.kill(process, number)
            is_sent = True
        if elapsed > LONGEST:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)
