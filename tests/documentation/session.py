"""The folder in which a reader follows a page: shells, and one Python process, run its blocks."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.documentation.pages import Block

__all__ = ["Session", "processor_seconds", "session"]

ROOT = Path(__file__).parents[2]
LIMIT = 900  # seconds of a block

# Runs the code of each line of JSON in one namespace. What the code prints, and what processes that
# it starts print, goes to the file of the line; the exit code is the answer.
PYTHON = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
page = {"__name__": "__main__"}
for line in sys.stdin:
    block = json.loads(line)
    file = os.open(block["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    code = 0
    try:
        exec(compile(block["code"], "page.py", "exec"), page)
    except BaseException:
        code = 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    print(code, file=answers, flush=True)
"""


@dataclass
class Session:
    """A folder and the processes in it.

    Args:
        folder: the working folder of every block.
        scratch: a folder for files of the session itself.
    """

    folder: Path
    scratch: Path
    _python: "subprocess.Popen[str] | None" = field(default=None, init=False)

    def run(self, block: Block) -> tuple[int, str]:
        """Run a block; return its exit code and what it printed on stdout and stderr."""
        if block.language == "sh":
            return self._run_shell(block.code)
        return self._run_python(block.code)

    def close(self) -> None:
        """End the Python process."""
        if self._python is not None:
            self._python.communicate()
            self._python = None

    def _run_shell(self, code: str) -> tuple[int, str]:
        process = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=_environment(),
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return process.returncode, printed.decode("utf-8", "replace")

    def _run_python(self, code: str) -> tuple[int, str]:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", PYTHON],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env=_environment(),
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        output = self.scratch / "output"
        print(
            json.dumps({"code": code, "output": str(output)}), file=self._python.stdin, flush=True
        )
        answer = self._python.stdout.readline()
        printed = output.read_text(encoding="utf-8", errors="replace")
        if not answer:
            return self._python.wait(), printed
        return int(answer), printed


@contextlib.contextmanager
def session() -> Iterator[Session]:
    """Yield a session in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as scratch:
        reader = Session(Path(folder).resolve(), Path(scratch))
        try:
            yield reader
        finally:
            reader.close()


def processor_seconds() -> float:
    """Return the processor time of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _environment() -> dict[str, str]:
    """Return the environment of a reader who has activated this virtual environment."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # as the commands set it: other programs may run
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "MPLBACKEND": "agg",
        "COLUMNS": "100",
    }
