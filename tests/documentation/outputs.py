"""What a block printed, cleaned for a page, and its comparison with what the page shows.

Words must be equal, and numbers within a relative tolerance, errors behind ± within
:data:`ERROR_TOLERANCE` at least. Spaces between words, durations and
rates may differ. A line of three dots stands for any number of lines.
"""

import difflib
import json
import re

__all__ = ["DOTS", "cleaned", "difference", "elided", "matches"]

DOTS = "..."

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Lines of the progress of trainings, and the note on threads, which depends on other programs.
PROGRESS = re.compile(r"(\s*\d+%  )?step [\d,]+(/[\d,]+)? · |note: \d+ threads?: \d+ usable cores")
DURATION = re.compile(r"\b(\d+ min )?\d+(\.\d+)? (ms|s|seconds|min|minutes)\b(?!/)")
RATE = re.compile(r"[\d,.]+ (\w+/s)\b")
NUMBER = re.compile(r"((?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)")
ERROR_TOLERANCE = 0.5  # of a standard error, which varies more than its estimate
ANY_NUMBER = 1.0  # a tolerance from which on every number is right


def cleaned(output: str, folder: str) -> str:
    """Return an output as a page shows it.

    Left out are what carriage returns overwrite, codes of colours, the path of the page's folder,
    lines of the progress of trainings with the note on threads, and the line of JSON that ``univae`` prints for programs.
    """
    lines = []
    for line in ESCAPE.sub("", output).replace(f"{folder}/", "").split("\n"):
        visible = line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
        if not PROGRESS.match(visible) and not _is_json_object(visible):
            lines.append(visible)
    return "\n".join(lines).strip("\n")


def difference(shown: str, printed: str, tolerance: float) -> str:
    """Return a unified diff of a shown and a printed output; empty if they match."""
    if matches(shown.splitlines(), printed.splitlines(), tolerance):
        return ""
    diff = difflib.unified_diff(
        shown.splitlines(), printed.splitlines(), "shown", "printed", lineterm="", n=1
    )
    return "\n".join(diff)


def matches(shown: list[str], printed: list[str], tolerance: float) -> bool:
    """Return whether printed lines are those that are shown, dots standing for any."""
    if DOTS not in map(str.strip, shown):
        return len(shown) == len(printed) and all(
            same_line(a, b, tolerance) for a, b in zip(shown, printed, strict=True)
        )
    dots = [line.strip() for line in shown].index(DOTS)
    head = shown[:dots]
    tail = shown[dots + 1 :]
    if not matches(head, printed[:dots], tolerance):
        return False
    return any(matches(tail, printed[i:], tolerance) for i in range(dots, len(printed) + 1))


def same_line(shown: str, printed: str, tolerance: float) -> bool:
    """Return whether two lines have the same words, and the same numbers within the tolerance."""
    ours = NUMBER.split(_timeless(shown))
    theirs = NUMBER.split(_timeless(printed))
    if len(ours) != len(theirs):
        return False
    if any(a.split() != b.split() for a, b in zip(ours[::2], theirs[::2], strict=True)):
        return False
    return all(
        _is_near(float(_plain(a)), float(_plain(b)), tolerance, before)
        for before, a, b in zip(ours[::2], ours[1::2], theirs[1::2], strict=False)
    )


def _is_near(shown: float, printed: float, tolerance: float, before: str) -> bool:
    """Return whether two numbers are equal within the tolerance that their context allows."""
    if before.rstrip().endswith("±"):
        tolerance = max(tolerance, ERROR_TOLERANCE)
    is_any = tolerance >= ANY_NUMBER
    return is_any or abs(shown - printed) <= tolerance * max(abs(shown), abs(printed))


def elided(printed: str, shown: str) -> str:
    """Return a printed output, with dots for the lines that an earlier version left out.

    A line of the earlier version is the next printed line with the same words. Where one is not
    found, the whole output is returned.
    """
    lines = printed.splitlines()
    kept: list[str] = []
    position = 0
    skips = False
    for line in shown.splitlines():
        if line.strip() == DOTS:
            kept.append(line)
            skips = True
            continue
        candidates = range(position, len(lines) if skips else min(position + 1, len(lines)))
        index = next((i for i in candidates if same_line(line, lines[i], ANY_NUMBER)), None)
        if index is None:
            return printed
        kept.append(lines[index])
        position = index + 1
        skips = False
    if not skips and position < len(lines):
        return printed
    return "\n".join(kept)


def _timeless(line: str) -> str:
    """Return a line without durations and rates, which differ from one run to the next."""
    return RATE.sub(r"RATE \1", DURATION.sub("DURATION", line))


def _plain(number: str) -> str:
    """Return a number without separators of thousands, with a minus that Python reads."""
    return number.replace(",", "").replace("−", "-")


def _is_json_object(line: str) -> bool:
    if not (line.startswith("{") and line.endswith("}")):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
