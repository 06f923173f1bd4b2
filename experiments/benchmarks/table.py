"""The table of ratios, from files of results: what, against what, ratio, script, machine, date.

``python -m experiments.benchmarks.table [FILE ...]`` prints it in Markdown; without files, that of
the results that are part of the package.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from experiments.benchmarks.registry import BENCHMARKS, Keys
from univae.checkpoint import JsonObject, read_json
from univae.errors import InputError

__all__ = [
    "RESULTS",
    "Row",
    "date_of_commit",
    "markdown",
    "ratio_rows",
    "result_files",
    "rows_of",
    "value_at",
]

RESULTS = Path(__file__).parents[1] / "results"
HEAD = ("what", "against", "ratio", "script", "machine", "date")
UNKNOWN = "–"
QUARTILES = 3
MANY = 10  # from here on a ratio is written without decimals
FEW = 2  # below this one with two


class Row(NamedTuple):
    """A row of the table."""

    what: str
    against: str
    ratio: str
    script: str
    machine: str
    date: str


def result_files(folder: Path = RESULTS) -> list[Path]:
    """Return the files of results of benchmarks in a folder, by name."""
    files = sorted(folder.glob("*.json"))
    return [path for path in files if "benchmark" in _object(path)]


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a file that :func:`experiments.benchmarks.harness.report` has written.

    Raises:
        InputError: it is no such file, or a number of a row is not in it.
    """
    content = _object(path)
    name = content.get("benchmark")
    if name not in BENCHMARKS:
        raise InputError(f"{path}: no results of a benchmark; its name is {name}")
    rows = []
    for what, against, ratio in ratio_rows(str(name), content["results"], str(path)):
        machine = _machine(content.get("machine", {}))
        date = content.get("date") or date_of_commit(path)
        rows.append(Row(what, against, ratio, str(name), machine, date))
    return rows


def ratio_rows(name: str, results: Any, source: str = "") -> list[tuple[str, str, str]]:
    """Return what, against what, and the ratio of every row of a benchmark.

    A row that is ``partial`` is left out where its part is not in the results.

    Raises:
        InputError: a number of another row is not in them; ``source`` names the results.
    """
    rows = []
    for row in BENCHMARKS[name].ratios:
        numbers = {keys: value_at(results, keys) for keys in (*row.keys, *row.over)}
        missing = [keys for keys, number in numbers.items() if number is None]
        if missing and row.partial:
            continue
        if missing:
            raise InputError(f"{source or name}: no number at {' > '.join(map(str, missing[0]))}")
        ratios = [cast(float, numbers[keys]) for keys in row.keys]
        for i, keys in enumerate(row.over):
            if not numbers[keys]:
                raise InputError(f"{source or name}: 0 at {' > '.join(map(str, keys))}")
            ratios[i] /= cast(float, numbers[keys])
        rows.append((row.what, row.against, " / ".join(map(_written, ratios))))
    return rows


def value_at(results: Any, keys: Keys) -> float | None:
    """Return the number at ``keys``, of quartiles the median; None where there is none."""
    for key in keys:
        try:
            results = results[key]
        except (KeyError, IndexError, TypeError):
            return None
    if isinstance(results, list) and len(results) == QUARTILES:
        results = results[1]
    return float(results) if isinstance(results, int | float) else None


def markdown(rows: Iterable[Row], columns: Sequence[str] = HEAD) -> str:
    """Return columns of rows as a table in Markdown."""
    lines = [_line(columns), _line(["---"] * len(columns))]
    for row in rows:
        cells = row._replace(script=f"`{row.script}`")._asdict()
        lines.append(_line([cells[column] for column in columns]))
    return "\n".join(lines)


def _object(path: Path) -> JsonObject:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object of results")
    return content


def _written(value: float) -> str:
    """Return a ratio with about two digits.

    >>> _written(1.126), _written(2.378), _written(99.88)
    ('1.13', '2.4', '100')
    """
    if value >= MANY:
        return f"{value:.0f}"
    return f"{value:.2f}" if round(value, 2) < FEW else f"{value:.1f}"


def _machine(machine: Mapping[str, object]) -> str:
    parts = []
    if machine.get("device") not in (None, "cpu"):
        parts.append(str(machine["device"]))
    if machine.get("cpu"):
        parts.append(str(machine["cpu"]))
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    if machine.get("torch"):
        parts.append(f"torch {machine['torch']}")
    return ", ".join(parts) or UNKNOWN


def date_of_commit(path: Path) -> str:
    """Return the day of the last commit of a file, for results from before they had a date."""
    command = ["git", "-C", str(path.parent), "log", "-1", "--format=%as", "--", path.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main(arguments: Sequence[str]) -> int:
    """Print the table of files of results, and return the exit code."""
    try:
        files = [Path(argument) for argument in arguments] or result_files()
        rows = [row for path in files for row in rows_of(path)]
    except InputError as error:
        print(f"table: {error}", file=sys.stderr)
        return 2
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
