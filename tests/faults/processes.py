"""Commands in forked processes, which need not import the libraries again."""

import fcntl
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

MOST_WORDS = 2**20  # bytes of output that a pipe holds
FAILED = 99  # exit code of an exception that ends a process
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
    counted = folder.parent / f"{folder.name}.count"
    counted.unlink(missing_ok=True)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, MOST_WORDS)
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        code = FAILED
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.chdir(folder)
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            code = _become(action, folder, kill_at, counted)
        finally:
            os._exit(code)
    os.close(writer)
    status = _wait(process, start, kill_after, number)
    seconds = time.monotonic() - start
    with open(reader, "rb") as stream:
        words = stream.read().decode(errors="replace")
    operations = int(counted.read_text()) if counted.exists() else 0
    return Ending(os.waitstatus_to_exitcode(status), words, operations, seconds)


def _become(action: Callable[[], object], folder: Path, kill_at: int, counted: Path) -> int:
    """Run the action in this process, which a fork has made, and return its exit code."""
    count = count_operations(folder, kill_at)
    code = 0
    try:
        action()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    counted.write_text(str(count()))
    return code


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
