"""The kill battery: commands are killed at every file operation, and must leave nothing behind.

``python -m tests.faults.kills`` kills each command of :data:`tests.faults.cases.CASES` before each
of its file operations, and at random moments, and lets the same command go on. The weights, metrics
and outputs must equal those of an undisturbed run, bit for bit; no hidden file may stay; and what
has its final name must be whole. With ``--signals`` commands get SIGINT, SIGTERM and SIGHUP at
random moments, too, and must end within :data:`LONGEST_ANSWER` seconds by an exit code of theirs.

The last line is a summary in JSON; the exit code is 0 where it holds no fault.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from experiments.benchmarks.harness import machine
from experiments.cli.commands import COMMANDS
from tests.faults.cases import CASES, prepare, write_data
from tests.faults.processes import run

__all__ = ["Battery", "Summary", "main"]

LONGEST_ANSWER = 5.0  # seconds from a signal to the end of the process
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
MOST_IN_A_ROW = 4  # kills before a command may go on to its end
LONGEST_WORDS = 300  # characters of a message in the summary
OUTPUTS = {"compress": "x.bits", "decompress": "back.npy", "likelihood": "s.csv", "encode": "z.npy"}


@dataclass
class Summary:
    """What a battery has done and found."""

    kills: int = 0
    signals: int = 0
    operations: dict[str, int] = field(default_factory=dict)  # of each command
    different: int = 0  # results that are not those of the undisturbed command
    stuck: int = 0  # commands that did not end well after a kill
    litter: int = 0  # hidden or partial files after the next start
    broken: int = 0  # files under their final name that were not whole after the kill
    unanswered: int = 0  # signals that ended no command in time, or by another exit code
    slowest_answer: float = 0.0  # seconds
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, what: str) -> None:
        """Count a fault of one kind."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.faults.append(f"{kind}: {what}"[:LONGEST_WORDS])
        print(self.faults[-1], file=sys.stderr)


class Battery:
    """Kills commands in a folder of its own, and compares what they write in the end.

    Args:
        folder: a new folder for all files.
        seed: of random moments.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.summary = Summary()
        self.done: dict[str, Path] = {}
        self.results: dict[str, Mapping[str, object]] = {}
        self.seconds: dict[str, float] = {}
        for module, _ in COMMANDS.values():  # once, before processes are forked
            __import__(module)
        __import__("torch._dynamo")  # which optimizers import
        write_data(folder / "data")

    def prepare(self, name: str) -> None:
        """Run a case undisturbed, after the case that it starts from."""
        if name in self.done:
            return
        case = CASES[name]
        if case.source:
            self.prepare(case.source)
        place = self.folder / f"done-{name}"
        prepare(case, place, self.done)
        ending = run(partial(case.act, place), place)
        if ending.code:
            raise RuntimeError(f"{name}: {ending.words}")
        self.done[name] = place
        self.results[name] = case.results(place)
        self.seconds[name] = ending.seconds
        self.summary.operations[name] = ending.operations

    def kill(self, name: str, kill_at: int = 0, kill_after: float | None = None) -> None:
        """Kill a case at one operation or moment, and a few times more as it goes on; compare."""
        case = CASES[name]
        place = self.folder / "place"
        prepare(case, place, self.done)
        resume = self.random.random() < 0.5
        start = partial(case.act, place, resume=resume)
        moments = [kill_at or kill_after]
        ending = run(start, place, kill_at=kill_at, kill_after=kill_after)
        while ending.code == -signal.SIGKILL:
            moment = f"{name} at {moments} (--resume: {resume})"
            self.summary.kills += 1
            for path in broken_files(place, OUTPUTS.get(name), self.results[name]):
                self.summary.add("broken", f"{moment}: {path}")
            if len(moments) == MOST_IN_A_ROW:
                break
            moments.append(self.random.randint(1, self.summary.operations[name]))
            again = partial(case.act, place, again=True, resume=resume)
            ending = run(again, place, kill_at=moments[-1])
        moment = f"{name} at {moments} (--resume: {resume})"
        self.go_on(name, place, moment, resume=resume)

    def interrupt(self, name: str, number: int, moment: float) -> None:
        """Send a signal to a case, check its end, let it go on, and compare."""
        case = CASES[name]
        place = self.folder / "place"
        prepare(case, place, self.done)
        ending = run(partial(case.act, place), place, kill_after=moment, number=number)
        self.summary.signals += 1
        words = f"{name}: {signal.Signals(number).name} at {moment:.2f} s"
        answer = ending.seconds - moment
        if ending.code != 0:  # a command that was done needs no time
            self.summary.slowest_answer = max(self.summary.slowest_answer, answer)
        in_time = answer < LONGEST_ANSWER + self.seconds[name] * (ending.code == 0)
        had_begun = ending.code != -number or ending.words != ""
        ended_well = ending.code in (0, INTERRUPTED) and "Traceback" not in ending.words
        if had_begun and not (ended_well and in_time):
            end = ending.words.strip()[-LONGEST_WORDS // 2 :]
            self.summary.add("unanswered", f"{words}: {ending.code} in {answer:.1f} s: {end}")
        self.go_on(name, place, words, resume=True)

    def go_on(self, name: str, place: Path, moment: str, *, resume: bool) -> None:
        """Let a command that was ended go on, and count what is wrong in the end."""
        case = CASES[name]
        ending = run(partial(case.act, place, again=True, resume=resume), place)
        if ending.code:
            self.summary.add("stuck", f"{moment}: {ending.code} {ending.words.strip()[-200:]}")
            return
        if case.results(place) != self.results[name]:
            self.summary.add("different", moment)
        for path in litter(place):
            self.summary.add("litter", f"{moment}: {path.relative_to(place)}")


def litter(folder: Path) -> Iterator[Path]:
    """Yield the hidden and partial files and folders below a folder, but for locks."""
    for path in sorted(folder.rglob("*")):
        is_hidden = path.name.startswith(".") and path.name != ".lock"
        if is_hidden or path.name.endswith(".partial"):
            yield path


def broken_files(folder: Path, output: str | None, results: Mapping[str, object]) -> Iterator[str]:
    """Yield files that have their final name and are not whole: JSON, weights, and the output."""
    from safetensors import safe_open

    for path in folder.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            if path.suffix == ".json" or path.name == "DONE":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    file.keys()
        except Exception as error:
            yield f"{path.name}: {error}"
    if output is None or not (folder / output).exists():
        return
    if (folder / output).read_bytes() != results[output]:
        yield output


def main(argv: Sequence[str] | None = None) -> int:
    """Run the battery, print its summary, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--most", type=int, default=0, help="kills of each case; 0: all operations")
    parser.add_argument("--random", type=int, default=0, help="kills of each at random moments")
    parser.add_argument("--signals", type=int, default=0, help="signals to each case")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no kill is begun")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        battery = Battery(folder, options.seed)
        for action in actions(battery, options):
            if time.monotonic() - start > 60 * options.minutes:
                break
            action()
            summary = battery.summary
            faults = len(summary.faults)
            count = f"{summary.kills} kills, {summary.signals} signals, {faults} faults"
            print(count, end="\r", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    words = " ".join(sys.argv[1:] if argv is None else argv)
    report = {
        "command": f"python -m tests.faults.kills {words}".strip(),
        "machine": machine(),
        "seconds": round(time.monotonic() - start, 1),
        **asdict(battery.summary),
    }
    print(json.dumps(report))
    return 1 if battery.summary.faults else 0


def actions(battery: Battery, options: argparse.Namespace) -> list[partial[None]]:
    """Return the kills and signals of a battery in random order: it may end before the last."""
    for name in options.cases:
        battery.prepare(name)
    draw = battery.random
    listed = []
    for name in options.cases:
        count = battery.summary.operations[name]
        most = min(options.most or count, count)
        for number in draw.sample(range(1, count + 1), most):
            listed.append(partial(battery.kill, name, number))
        for _ in range(options.random):
            moment = draw.uniform(0, battery.seconds[name])
            listed.append(partial(battery.kill, name, 0, moment))
        for i in range(options.signals):
            moment = draw.uniform(0, battery.seconds[name])
            number = SIGNALS[i % len(SIGNALS)]
            listed.append(partial(battery.interrupt, name, number, moment))
    draw.shuffle(listed)
    return listed


if __name__ == "__main__":
    sys.exit(main())
