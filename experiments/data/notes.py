"""One-line notes about what a command left out, cut or assumed: on stderr, and in its result under ``notes``.

A reader collects its notes with the data it returns; the command prints each once and returns them,
so that nothing is left out in silence.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

__all__ = ["print_notes", "with_notes"]


def print_notes(notes: Sequence[str]) -> None:
    """Print each note on a line of stderr, from the first process only."""
    if os.environ.get("RANK", "0") != "0":
        return
    for note in notes:
        tqdm.write(f"note: {note}", file=sys.stderr)


def with_notes(result: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    """Return ``result`` with the key ``notes``, or as it is where there is none."""
    if not notes:
        return result
    return {**result, "notes": list(notes)}
