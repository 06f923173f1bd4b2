"""File operations of a process, counted; at the one of a given number the process kills itself."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["count_operations"]

# Audit events of what changes a folder; "open" counts where it may write.
CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "os.link",
    "os.symlink",
    "os.utime",
    "shutil.rmtree",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def count_operations(folder: Path, kill_at: int = 0) -> Callable[[], int]:
    """Count the operations of this process on files below ``folder``, before each happens.

    Operations are what creates, opens for writing, renames, deletes or changes a file or folder,
    and every fsync. A process cannot stop to count.

    Args:
        folder: where operations count; relative names count, too, as those of a folder that is
            being deleted are.
        kill_at: the number, from 1, of the operation before which the process is killed
            (SIGKILL); 0: none.

    Returns:
        a function that returns the number of operations so far.
    """
    count = 0
    root = str(folder)
    fsync = os.fsync

    def happens() -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & WRITING:
                return
        elif event not in CHANGES:
            return
        path = arguments[0]
        name = path if isinstance(path, str) else os.fsdecode(path) if _is_name(path) else ""
        if name.startswith(root) or (name and not os.path.isabs(name)):
            happens()

    def counted_fsync(descriptor: int) -> None:
        happens()
        fsync(descriptor)

    os.fsync = counted_fsync
    sys.addaudithook(audit)
    return lambda: count


def _is_name(path: object) -> bool:
    return isinstance(path, bytes | os.PathLike)
