"""Hidden names under which files and folders are written, and the removal of what was left behind.

A name holds the machine and the process that writes, ``.NAME.HOST.PID.new``, so that a later
process can tell the files of one that was killed from those of one that is still writing.
"""

import os
import platform
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

__all__ = ["is_temporary", "remove_dead", "remove_dead_beside", "remove_folder", "temporary_beside"]

HOST = blake2b(platform.node().encode(), digest_size=4).hexdigest()

# Versions up to 0.1.0 wrote no HOST.
TEMPORARY_NAME = re.compile(r"\.(?P<name>.+?)(?:\.(?P<host>[0-9a-f]{8}))?\.(?P<pid>\d+)\.new")


def temporary_beside(path: Path) -> Path:
    """Return the hidden name in the folder of ``path`` under which this process writes it."""
    return path.with_name(f".{path.name}.{HOST}.{os.getpid()}.new")


def is_temporary(path: Path) -> bool:
    """Return whether a name is one that :func:`temporary_beside` returns, in any process."""
    return TEMPORARY_NAME.fullmatch(path.name) is not None


def remove_dead(paths: Iterable[Path], *, is_locked: bool = False) -> None:
    """Delete those of ``paths`` that a process was writing which has ended.

    Args:
        paths: files and folders of any name.
        is_locked: whether this process has locked their folder and writes nothing there now: those
            of other machines, and of its own number, are then of processes that have ended, too.
            Without it they stay, as those of running processes of this machine always do.
    """
    for path in paths:
        match = TEMPORARY_NAME.fullmatch(path.name)
        if match is None:
            continue
        is_here, process = match["host"] in (None, HOST), int(match["pid"])
        was_mine = is_locked and process == os.getpid()
        if was_mine or (not _is_running(process) if is_here else is_locked):
            _delete(path)


def remove_dead_beside(path: Path) -> None:
    """Delete what killed processes of this machine left of writing ``path``."""
    prefix = f".{path.name}.{HOST}."
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.startswith(prefix)]
        remove_dead(path.parent / name for name in names)


def remove_folder(path: Path) -> None:
    """Delete a folder with its contents; a process that is killed meanwhile leaves all or nothing.

    A folder that does not exist is no error.
    """
    temporary = temporary_beside(path)
    _delete(temporary)
    with suppress(FileNotFoundError):
        path.rename(temporary)
    _delete(temporary)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if process == os.getpid() or os.name != "posix":  # elsewhere os.kill ends processes
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # a process of another user
        return True
    return True
