"""Run mutated inputs in forked children, and tell what happened to each.

A child reads many inputs, so that libraries are imported once. What ends a child, a signal, the
alarm or the bound of memory, is laid to the input it was reading, which is read again alone in a
child of its own; the next child goes on after it.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutate import mutate
from tests.fuzz.target import Target
from univae.errors import InputError

__all__ = ["ALARM", "OK", "REFUSED", "Outcome", "Prepared", "attempt", "prepare", "run_inputs"]

ALARM = 20  # seconds of one input
PAGE = resource.getpagesize()
ROOT = str(Path(__file__).parents[2])

OK = "read"
REFUSED = "refused"
REFUSAL = 2  # exit code


class Outcome(NamedTuple):
    """What happened to one input: ``read``, ``refused``, or the words for a finding."""

    number: int
    kind: str

    @property
    def is_finding(self) -> bool:
        """Return whether the input was neither read nor refused."""
        return self.kind not in (OK, REFUSED)


class Prepared(NamedTuple):
    """A target with its valid inputs on disk."""

    target: Target
    valid: Path  # the folder that ``make`` filled
    work: Path  # a copy of it, in which inputs are mutated
    names: list[str]  # of the files to mutate, relative to both
    contents: list[bytes]

    def input(self, number: int, seed: int) -> tuple[str, bytes]:
        """Return the name and bytes of an input: first the valid files, then mutated ones."""
        if number < len(self.names):
            return self.names[number], self.contents[number]
        draw = random.Random(f"{seed} {self.target.name} {number}")
        row = draw.randrange(len(self.names))
        name = self.names[row]
        return name, mutate(self.contents[row], name, self.contents, draw)


def prepare(target: Target, folder: Path) -> Prepared:
    """Write the valid inputs of a target below an empty folder."""
    valid = folder / "valid"
    valid.mkdir(parents=True)
    paths = list(target.make(valid))
    names = [str(path.relative_to(valid)) for path in paths]
    work = folder / "work"
    shutil.copytree(valid, work, symlinks=True)
    return Prepared(target, valid, work, names, [path.read_bytes() for path in paths])


def run_inputs(prepared: Prepared, numbers: Sequence[int], seed: int) -> list[Outcome]:
    """Read inputs in children, and return what happened to each."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(numbers):
        left = numbers[len(outcomes) :]
        done, death = _batch(prepared, left, seed)
        outcomes += done
        if len(done) < len(left):
            number = left[len(done)]
            alone, death_alone = _batch(prepared, [number], seed) if len(left) > 1 else ([], death)
            outcomes += alone or [Outcome(number, death_alone)]
    return outcomes


def _batch(prepared: Prepared, numbers: Sequence[int], seed: int) -> tuple[list[Outcome], str]:
    """Return the outcomes of a child, and what ended it before the last input."""
    _restore(prepared)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _read_all(prepared, numbers, seed, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        outcomes = [Outcome(*json.loads(line)) for line in lines]
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        return outcomes, f"the process ended with code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    death = "hang" if number == signal.SIGALRM else f"signal {signal.Signals(number).name}"
    return outcomes, death


def _read_all(prepared: Prepared, numbers: Sequence[int], seed: int, pipe: int) -> None:
    """Read inputs one after the other, and write a line of JSON for each."""
    with open(os.devnull, "r+b") as nothing:
        for stream in (0, 1, 2):
            os.dup2(nothing.fileno(), stream)
    warnings.simplefilter("ignore")
    _limit_memory(prepared.target.memory)
    before = _state(prepared.work)
    for number in numbers:
        name, content = prepared.input(number, seed)
        path = prepared.work / name
        path.write_bytes(content)
        signal.alarm(ALARM)
        kind = attempt(prepared, path)
        signal.alarm(0)
        path.write_bytes((prepared.valid / name).read_bytes())
        after = _state(prepared.work)
        if after != before:
            if kind == REFUSED and after - before:
                kind = "left behind"
            _restore(prepared)
        if number < len(prepared.names) and kind == REFUSED:
            kind = "a valid input is refused"
        os.write(pipe, (json.dumps([number, kind]) + "\n").encode())


def attempt(prepared: Prepared, path: Path) -> str:
    """Read one input, and return what happened."""
    try:
        prepared.target.read(path)
    except InputError as error:
        return "memory" if any(isinstance(e, MemoryError) for e in _causes(error)) else REFUSED
    except SystemExit as error:
        return REFUSED if error.code == REFUSAL else f"exit {error.code}"
    except MemoryError as error:
        return f"memory: {_place(error)}"
    except BaseException as error:
        return f"{type(error).__name__}: {_place(error)}"
    return OK


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _place(error: BaseException) -> str:
    """Return file and function of the project in which an exception passed last."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(ROOT) and "/.venv/" not in frame.filename
    ]
    last = frames[-1] if frames else None
    return "" if last is None else f"{os.path.relpath(last.filename, ROOT)}:{last.name}"


def _limit_memory(extra: int) -> None:
    """Bound the address space; only where the system says how large it is now."""
    if not sys.platform.startswith("linux"):
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, hard))


def _state(folder: Path) -> set[str]:
    return {os.path.join(top, n) for top, dirs, files in os.walk(folder) for n in (*dirs, *files)}


def _restore(prepared: Prepared) -> None:
    shutil.rmtree(prepared.work)
    shutil.copytree(prepared.valid, prepared.work, symlinks=True)
