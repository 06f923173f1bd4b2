"""What a finished run of a study was asked for, and whether it is what the study asks for now.

A study reuses the runs that it finds in its folder. One that was trained with other options would
be reported under those of today.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments.training.comparison import NEWER, UNCOMPARED
from univae.checkpoint import JsonObject, read_json, to_json, write_json
from univae.errors import InputError, brief_list

__all__ = ["bad_input_ends", "record_options", "require_same_options", "stored_options"]

CONFIG = "config.json"  # what training writes
OPTIONS = "options.json"  # what is written for a job that leaves no configuration
# Options that do not change what is measured, beside those that a resumed run may change.
INDIFFERENT = (*UNCOMPARED, "threads", "features")
UNDECIDED = "auto"  # left to the data or the machine: the device, the binarisation, the network


def stored_options(folder: Path) -> JsonObject:
    """Return the options of a finished run; none where no record of them is there."""
    for name in (CONFIG, OPTIONS):
        if (folder / name).exists():
            options: JsonObject = read_json(folder / name)
            return options
    return {}


def record_options(folder: Path, options: Mapping[str, object]) -> None:
    """Write the options of a finished run, unless training has written its configuration."""
    if not (folder / CONFIG).exists():
        write_json(folder / OPTIONS, options)


def require_same_options(
    folder: Path,
    stored: Mapping[str, object],
    options: Mapping[str, object],
    advice: str = "give another --out, or remove the folder",
) -> None:
    """Compare the options that a folder was written with, as far as on record, with those of now.

    Paths are compared as the files that they name, or from the folder ``out`` where both have one,
    which may have moved.

    Args:
        folder: what was written, for the message.
        stored: the options on record, in JSON's types.
        options: those of now.
        advice: what to do about a difference.

    Raises:
        InputError: an option that changes the result differs.
    """
    known = {**NEWER, **stored} if stored else {}
    wanted: JsonObject = {str(name): to_json(value) for name, value in options.items()}
    roots = (_root(known), _root(wanted))
    changes = []
    for name, value in wanted.items():
        if name in INDIFFERENT or name not in known:
            continue
        before = known[name]
        if value == UNDECIDED or (name == "device" and before == UNDECIDED):
            continue
        if not _agree(before, value, roots):
            changes.append(f"{name}={_shown(before)}, now {name}={_shown(value)}")
    if changes:
        raise InputError(f"{folder} was finished with {brief_list(changes)}; {advice}")


@contextmanager
def bad_input_ends(study: str) -> Iterator[None]:
    """End the process with exit code 2, and one line on stderr, where the block finds bad input."""
    try:
        yield
    except InputError as error:
        print(f"{study}: {error}", file=sys.stderr)
        sys.exit(2)


def _root(options: Mapping[str, object]) -> Path:
    return Path(str(options.get("out", "."))).resolve()


def _agree(before: object, value: object, roots: tuple[Path, Path]) -> bool:
    if isinstance(before, list) and isinstance(value, list):
        pairs = zip(before, value, strict=False)
        return len(before) == len(value) and all(_agree(x, y, roots) for x, y in pairs)
    if before == value or not (isinstance(before, str) and isinstance(value, str)):
        return before == value
    # two words that differ name two files, too
    first = Path(before).resolve()
    second = Path(value).resolve()
    return first == second or os.path.relpath(first, roots[0]) == os.path.relpath(second, roots[1])


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
