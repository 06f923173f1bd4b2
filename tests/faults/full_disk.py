"""The battery of full disks: commands whose files may not grow beyond a size, or whose disk is full.

``python -m tests.faults.full_disk`` runs the commands of :data:`tests.faults.cases.CASES` with a
limit on the size of a file, from a few bytes to that of the largest one, and lets them go on
without it. Each must end by an exit code of its own and one line that names a path of the user,
leave its last checkpoint whole, and then reach the results of an undisturbed command, bit for bit.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tests.faults.cases import CASES, prepare
from tests.faults.kills import OUTPUTS, Battery, broken_files
from tests.faults.processes import run

__all__ = ["limit_files", "main"]

HIDDEN = re.compile(r"\.[\w.-]+\.(new|old)\b")  # names that no user knows
REFUSED = (1, 2)  # exit codes


def limit_files(battery: Battery, name: str, size: int) -> int:
    """Run a case whose files have at most ``size`` bytes, let it go on, and compare.

    Returns:
        the exit code of the limited command.
    """
    case = CASES[name]
    place = battery.folder / "place"
    prepare(case, place, battery.done)
    ending = run(partial(case.act, place), place, largest_file=size)
    moment = f"{name} with files of {size} bytes"
    words = ending.words.strip()
    last = words.splitlines()[-1] if words else ""
    if ending.code and (
        ending.code not in REFUSED or "Traceback" in words or HIDDEN.search(last) or ":" not in last
    ):
        battery.summary.add("unanswered", f"{moment}: {ending.code} {words[-200:]}")
    for path in broken_files(place, OUTPUTS.get(name), battery.results[name]):
        battery.summary.add("broken", f"{moment}: {path}")
    battery.go_on(name, place, moment, resume=True)
    return ending.code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the battery, print its summary, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 1000, 4000, 16_000, 40_000])
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="full-"))
    codes: dict[str, list[int]] = {}
    try:
        battery = Battery(folder)
        for name in options.cases:
            battery.prepare(name)
            codes[name] = [limit_files(battery, name, size) for size in options.sizes]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"sizes": options.sizes, "codes": codes, **asdict(battery.summary)}))
    return 1 if battery.summary.faults else 0


if __name__ == "__main__":
    sys.exit(main())
