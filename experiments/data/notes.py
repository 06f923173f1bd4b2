"""One-line notes of what a command left out, cut or assumed: on stderr, and as ``notes`` in JSON.

A reader returns its notes with the data. The command prints each once and returns them all in its
result, so that nothing is left out unreported.
"""

import sys
from collections.abc import Sequence

from tqdm import tqdm

from experiments.training.processes import is_first_process
from univae.checkpoint import JsonObject

__all__ = ["print_notes", "with_notes"]


def print_notes(notes: Sequence[str]) -> None:
    """Print each note on a line of stderr, in the first process only."""
    if not is_first_process():
        return
    for note in notes:
        tqdm.write(f"note: {note}", file=sys.stderr)


def with_notes(result: JsonObject, notes: Sequence[str]) -> JsonObject:
    """Return ``result`` with the key ``notes``, or unchanged where there are no notes."""
    if not notes:
        return result
    return {**result, "notes": list(notes)}
