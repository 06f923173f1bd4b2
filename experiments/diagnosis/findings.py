"""A finding: what was found, and what to do about it; the table of all findings."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from univae.checkpoint import JsonObject

__all__ = ["NOTHING", "Finding", "find", "table"]

WIDTH = 100  # characters of a line of the table
BLANKS = 2  # between its columns


@dataclass(frozen=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        value: what was found, in words.
        advice: what the user can do about it; empty: nothing is wrong, and nothing to gain.
        numbers: what was found, for programs; its keys belong to the line of JSON.
    """

    value: str
    advice: str = ""
    numbers: JsonObject = field(default_factory=dict)


NOTHING = "nothing depends on it; the other lines hold"


def find(look: Callable[[], Finding], failure: str = NOTHING) -> Finding:
    """Return what ``look`` finds; on a machine that is too odd for it, what went wrong.

    ``failure`` is the advice then: what it means that the look fails.
    """
    try:
        return look()
    except Exception as error:  # an odd machine is what a doctor is asked about
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(f"unknown ({reason})", failure)


def table(findings: Sequence[tuple[str, Finding]]) -> str:
    """Return the findings one below the other, each with its advice on the lines behind an arrow.

    Args:
        findings: the name of each, and what was found.
    """
    width = max(len(name) for name, _ in findings) + BLANKS
    lines = []
    for name, finding in findings:
        lines += _wrapped(finding.value, f"  {name:<{width}}", width)
        if finding.advice:
            lines += _wrapped(f"-> {finding.advice}", " " * (width + BLANKS), width + 3)
    return "\n".join(lines)


def _wrapped(text: str, start: str, indent: int) -> list[str]:
    blanks = " " * (indent + BLANKS)
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=blanks)
