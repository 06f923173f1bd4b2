"""``univae bench``: times of this library beside its peers and plain versions, as ratios."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

import tyro

from experiments.benchmarks.registry import BENCHMARKS, Benchmark
from experiments.benchmarks.runs import Failed, Measured, measure, missing_peers
from experiments.benchmarks.table import ratio_rows
from experiments.cli.commands import run
from experiments.data.outputs import Output, output_file
from experiments.training.environment import environment
from experiments.training.stopping import Interrupted, PartlyFailed
from experiments.training.threads import THREADS, choose_threads
from univae.checkpoint import JsonObject, write_json
from univae.errors import InputError
from univae.rules import Rule, at_least, check

__all__ = ["Config", "main"]

MOST_ROUNDS = 10_000
MACHINE = ("cpu", "cores", "platform", "device")
VERSIONS = ("univae", "python", "torch", "numpy", "git")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measures this library beside its peers and plain versions on this machine.

    Contestants alternate within a benchmark, and ratios are computed within each round, so that a
    machine that is busy changes them less than times. Without names the quick benchmarks run.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()  # benchmarks; none: the quick ones
    all: bool = False  # every benchmark that compares, instead of the quick ones
    list: bool = False  # list the benchmarks, what they need and how long they take, and run none
    rounds: int = 0  # timed repetitions of each contestant; 0: each benchmark's own number
    # processor threads; 0: the free cores of this machine, or as the run was started (univae doctor
    # shows the number)
    threads: int = 0
    out: Path | None = None  # .json file for the result
    overwrite: bool = False  # replace an existing output file

    RULES: ClassVar[Mapping[str, Rule]] = {
        "rounds": at_least(0, MOST_ROUNDS, "0 (each benchmark's own number) or more"),
        "threads": THREADS,
    }

    def __post_init__(self) -> None:
        check(self)
        if self.all and self.names:
            raise InputError("NAME and --all: give one of them")
        unknown = [name for name in self.names if name not in BENCHMARKS]
        if unknown:
            near = get_close_matches(unknown[0], BENCHMARKS, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise InputError(f"{unknown[0]} is no benchmark; {meant}--list names them")


@dataclass
class Outcome:
    """The benchmarks that have run so far, with ``threads`` each, and those that have not."""

    threads: int
    measured: dict[str, Measured] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return the results with machine, versions and date."""
        facts = environment({})
        return {
            "date": facts["started"],
            "machine": {name: facts[name] for name in MACHINE} | {"threads": self.threads},
            "versions": {name: facts[name] for name in VERSIONS},
            "benchmarks": {name: each.to_json() for name, each in self.measured.items()},
            "skipped": self.skipped,
            "failed": self.failed,
        }


def main(config: Config) -> JsonObject:
    """Run the benchmarks one after the other, and print the table of their ratios.

    Returns:
        ``benchmarks``: command, seconds and results of each, medians and quartiles as its script
        writes them; ``skipped`` and ``failed`` with the reasons; ``machine``, ``versions``,
        ``date``. With ``--list`` the benchmarks.

    Raises:
        PartlyFailed: a benchmark failed; the others are in its result.
        Interrupted: by a signal, with those that have run.
    """
    if config.list:
        return _listed()
    out = output_file(config.out, config.overwrite, ())
    outcome = Outcome(config.threads or choose_threads().threads)
    try:
        for name in _chosen(config):
            _run(name, BENCHMARKS[name], config, outcome)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted", _written(outcome, out)) from error

    _print(_table(outcome))
    result = _written(outcome, out)
    if outcome.failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in outcome.failed.items())
        raise PartlyFailed(f"{len(outcome.failed)} failed: {reasons}", result)
    return result


def _written(outcome: Outcome, out: Output | None) -> JsonObject:
    """Return the results, which are also written to the file of ``--out``."""
    result = outcome.to_json()
    if out is not None:
        with out.file() as temporary:
            write_json(temporary, result)
        result["out"] = str(out.path)
    return result


def _chosen(config: Config) -> list[str]:
    """Return the names of the benchmarks to run."""
    if config.names:
        return [*config.names]
    if config.all:
        return [name for name, row in BENCHMARKS.items() if row.ratios and not row.needs]
    return [name for name, row in BENCHMARKS.items() if row.quick]


def _run(name: str, benchmark: Benchmark, config: Config, outcome: Outcome) -> None:
    """Run a benchmark, or note why it is skipped or failed."""
    missing = missing_peers(benchmark)
    if benchmark.needs:
        module = f"python -m experiments.benchmarks.{name}"
        outcome.skipped[name] = f"it needs arguments: {module} {benchmark.needs}"
    elif missing:
        outcome.skipped[name] = f"its peer is not installed: {missing}"
    if name in outcome.skipped:
        _print(f"{name}: skipped; {outcome.skipped[name]}")
        return
    _print(f"{name}: {benchmark.summary}, about {benchmark.minutes:g} min")
    try:
        outcome.measured[name] = measure(name, benchmark, config.rounds, outcome.threads)
    except Failed as error:
        outcome.failed[name] = str(error)
        _print(f"{name}: failed; {error}")


def _table(outcome: Outcome) -> str:
    """Return the ratios of the benchmarks, a line each below the name of the benchmark."""
    rows_by_name = {}
    for name, measured in outcome.measured.items():
        try:
            rows_by_name[name] = ratio_rows(name, measured.results)
        except InputError as error:
            outcome.failed[name] = str(error)
    for name in outcome.failed:
        outcome.measured.pop(name, None)
    width = max((len(ratio) for rows in rows_by_name.values() for _, _, ratio in rows), default=0)
    lines = []
    for name, rows in rows_by_name.items():
        lines.append(f"{name} ({outcome.measured[name].seconds:.0f} s)")
        for what, against, ratio in rows:
            lines.append(f"  {ratio:<{width}}  {what}; against {against}")
    return "\n".join(lines)


def _listed() -> JsonObject:
    """Print the benchmarks, and return them."""
    width = max(map(len, BENCHMARKS))
    listed: dict[str, JsonObject] = {}
    for name, row in BENCHMARKS.items():
        missing = missing_peers(row)
        needs = row.needs or missing
        listed[name] = {
            "summary": row.summary,
            "minutes": row.minutes,
            "quick": row.quick,
            "compares": bool(row.ratios),
            "peers": [peer.requirement for peer in row.peers],
            "missing": missing,
            "needs": row.needs,
        }
        marks = f"{'quick, ' if row.quick else ''}{row.minutes:g} min"
        _print(f"  {name:<{width}}  {row.summary} ({marks}){f'; needs {needs}' if needs else ''}")
    return {"benchmarks": listed}


def _print(text: str) -> None:
    if text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(Config, main)
