"""One-line notes on data that a command left out, cut or interpreted.

A reader returns its notes with the data. The command prints each once on stderr, and returns all of
them as ``notes`` in its result, so that no loss of data goes unreported.
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
