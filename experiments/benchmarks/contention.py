"""Speed of a small training beside busy programs: the commands' waiting policy, and PyTorch's own.

Each contestant is a process that trains when it is told to, so that one policy follows the other
within a round, at every number of neighbours. A neighbour is a process with an endless loop.
``share_of_quiet`` is the speed beside neighbours over that without them, ``gain`` the speed of the
commands over that of PyTorch's own policy, ``lost_when_quiet`` what the commands lose without
neighbours: medians of the ratios within rounds.

``python -m experiments.benchmarks.contention``
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from experiments.benchmarks.harness import report
from experiments.diagnosis.small_training import SmallTraining
from experiments.training.cores import usable_cores
from experiments.training.process_environment import POLICY
from univae.checkpoint import JsonObject

MODULE = "experiments.benchmarks.contention"
SETTLE = 0.2  # seconds that neighbours run before a measurement
OWN = "pytorch"  # PyTorch's own policy
COMMANDS = "commands"  # that of the commands

# A policy by its name -> number of neighbours -> steps a second, one number a round.
Speeds = dict[str, dict[int, list[float]]]


class Trainer:
    """A process that trains with a waiting policy."""

    def __init__(self, policy: Mapping[str, str]) -> None:
        unset = {name: value for name, value in os.environ.items() if name not in POLICY}
        code = f"from {MODULE} import serve; serve()"  # a plain program: no policy is set
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**unset, **policy},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def steps_per_second(self, seconds: float, threads: int) -> float:
        """Train for that many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(seconds, threads, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def serve() -> None:
    """Train for the seconds and with the threads that each line of stdin names; print the speed."""
    training = SmallTraining()
    for line in sys.stdin:
        seconds, threads = line.split()
        print(training.steps_per_second(float(seconds), int(threads)), flush=True)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep ``count`` processes busy while the block runs."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        time.sleep(SETTLE)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(
    policies: Mapping[str, Mapping[str, str]],
    counts: Sequence[int],
    rounds: int,
    seconds: float,
    threads: int,
) -> Speeds:
    """Return the speeds of each policy beside each number of neighbours."""
    speeds: Speeds = {name: {count: [] for count in counts} for name in policies}
    with ExitStack() as stack:
        trainers = {name: stack.enter_context(Trainer(policies[name])) for name in policies}
        for trainer in trainers.values():
            trainer.steps_per_second(0.0, threads)  # until it has started
        for number in range(rounds):
            order = list(trainers.items())[:: 1 if number % 2 else -1]
            for count in counts:
                with neighbours(count):
                    for name, trainer in order:
                        speeds[name][count].append(trainer.steps_per_second(seconds, threads))
    return speeds


def results(speeds: Speeds) -> JsonObject:
    """Return the medians, and the medians of ratios within rounds."""
    table: JsonObject = {}
    for name, of_policy in speeds.items():
        quiet = of_policy.get(0)
        row: JsonObject = {}
        for count, numbers in of_policy.items():
            cell = {"steps_per_second": statistics.median(numbers)}
            if quiet is not None and count:
                cell["share_of_quiet"] = median_ratio(numbers, quiet)
            if name != OWN:
                cell["gain"] = median_ratio(numbers, speeds[OWN][count])
            row[str(count)] = cell
        if name != OWN and quiet is not None:
            row["lost_when_quiet"] = 1 - median_ratio(quiet, speeds[OWN][0])
        table[name] = row
    return table


def median_ratio(numbers: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of paired numbers."""
    return statistics.median(a / b for a, b in zip(numbers, others, strict=True))


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--neighbours", type=int, nargs="+", default=[0, 1, 2, 4], help="numbers of busy programs"
    )
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each speed")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), help="of each training; default: every core"
    )
    parser.add_argument(
        "--spins", type=int, nargs="*", default=[], help="further values of GOMP_SPINCOUNT"
    )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args()
    policies: dict[str, Mapping[str, str]] = {OWN: {}, COMMANDS: POLICY}
    for spins in options.spins:
        policies[f"spins {spins}"] = {**POLICY, "GOMP_SPINCOUNT": str(spins)}
    speeds = measure(policies, options.neighbours, options.rounds, options.seconds, options.threads)
    report("contention", {"threads": options.threads, **results(speeds)}, options.out)


if __name__ == "__main__":
    main()
