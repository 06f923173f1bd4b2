"""A story: steps that a user takes in one folder, and the transcript of what they print."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Step", "Story", "command", "python", "tell"]

ROOT = Path(__file__).parents[3]  # the folder of the library's packages
SHOWN = 14  # lines of an output that a transcript shows
WIDTH = 160  # characters of a line that a transcript shows
TIME_LIMIT = 900  # seconds of one step
Say = Callable[[str], None]  # writes a line of the transcript
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Step:
    """One command line, or a few lines of Python."""

    line: str  # as the user types it
    arguments: Sequence[str]  # as the process is started
    expected: int = 0  # exit code


@dataclass(frozen=True)
class Story:
    """The steps of one user."""

    title: str
    steps: Callable[[Path, float], list[Step]]  # of a folder, and minutes for each training
    # makes the user's files in the first folder, from published data sets in the second
    files: Callable[[Path, Path], None]


def command(line: str, expected: int = 0) -> Step:
    """Return the step of a ``univae`` command line."""
    _, *arguments = shlex.split(line)
    return Step(line, [sys.executable, "-m", "univae", *arguments], expected)


def python(code: str) -> Step:
    """Return the step of some lines of Python."""
    return Step(code, [sys.executable, "-c", code])


def tell(story: Story, published: Path, folder: Path, minutes: float, say: Say) -> tuple[int, int]:
    """Make the files, take every step, and write the transcript.

    Returns:
        the number of steps, and of those that ended with another exit code than expected.
    """
    folder.mkdir(parents=True)
    story.files(folder, published)
    say(f"\n## {story.title}\n")
    steps = story.steps(folder, minutes)
    failures = 0
    for step in steps:
        failures += not _taken(step, folder, say)
    return len(steps), failures


def _taken(step: Step, folder: Path, say: Say) -> bool:
    """Take one step; return whether it ended as expected."""
    start = time.monotonic()
    done = subprocess.run(
        step.arguments,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIME_LIMIT,
        check=False,
    )
    seconds = time.monotonic() - start
    as_expected = done.returncode == step.expected
    mark = "" if as_expected else f"   <-- {step.expected} was expected"
    say(f"$ {step.line}")
    for line in _shown(done.stderr) + _shown(done.stdout):
        say(f"    {line}")
    say(f"    [exit {done.returncode}, {seconds:.1f} s]{mark}\n")
    return as_expected


def _shown(text: str) -> list[str]:
    """Return the last lines of an output, each cut to a width."""
    lines = [ESCAPES.sub("", line.split("\r")[-1]) for line in text.splitlines()]
    lines = [line for line in lines if line.strip()]
    cut = [line if len(line) <= WIDTH else f"{line[:WIDTH]} ..." for line in map(_compact, lines)]
    return cut if len(cut) <= SHOWN else ["...", *cut[-SHOWN:]]


def _compact(line: str) -> str:
    """Return a line of JSON without its long values, another line unchanged."""
    if not line.startswith("{"):
        return line
    try:
        result = json.loads(line)
    except ValueError:
        return line
    short = {name: value for name, value in result.items() if len(json.dumps(value)) <= WIDTH // 2}
    return json.dumps(short, ensure_ascii=False)
