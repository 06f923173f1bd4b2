"""Open a trained run for a command, and print the notes on it."""

from pathlib import Path
from typing import TypeVar

from experiments.data.notes import print_notes
from experiments.evaluation.abilities import refusal
from univae.run_folder import RunFolder
from univae.trained import Trained

__all__ = ["open_run"]

Run = TypeVar("Run", bound=Trained)


def open_run(
    kind: type[Run],
    path: str | Path,
    device: str = "auto",
    checkpoint: str = "best",
    command: str = "",
) -> Run:
    """Open the run folder of one kind, see :meth:`univae.trained.Trained.open`; print its notes.

    Raises:
        InputError: the run is of another kind; the message gives the reason why ``command`` does
            not take it.
    """
    if not kind.opens(RunFolder.open(path)):
        raise refusal(path, kind, command)
    run = kind.open(path, device, checkpoint)
    print_notes(run.notes)
    return run
