"""A run's metrics for programs that show them while it trains, beside ``metrics.jsonl``.

``--track tensorboard`` writes event files into the folder ``events`` of the run, which
``tensorboard --logdir RUNS`` reads: a curve for every number, named after its kind and itself
(``train/loss``, ``validation/nll_nats``), and the grids of images that validations write. A resumed
run replaces what it had written after its checkpoint.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from PIL import Image

from univae.checkpoint import JsonObject
from univae.errors import InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["EVENTS", "TRACKERS", "NoTracker", "Tracker", "TrackerName", "tracking"]

EVENTS = "events"  # folder of a run
GRID = "samples/step_{step:06d}.png"  # that a validation of images writes


@runtime_checkable
class Tracker(Protocol):
    """A program that shows the metrics of a training."""

    def row(self, kind: str, step: int, numbers: Mapping[str, object]) -> None:
        """Add a row of metrics."""

    def close(self) -> None:
        """Write what is not written yet."""


class TensorBoard:
    """Event files of TensorBoard.

    Args:
        run: the run folder.
        step: of the first row; those of an earlier training from it on are replaced.
        rows: those of that step and after it which a checkpoint stored.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, run: Path, step: int, rows: Iterable[JsonObject]) -> None:
        writer = _tensorboard()
        self._run = run
        self._writer: SummaryWriter = writer(str(run / EVENTS), purge_step=step)
        for row in rows:
            numbers = {name: value for name, value in row.items() if name not in ("kind", "step")}
            self.row(row["kind"], row["step"], numbers)

    def row(self, kind: str, step: int, numbers: Mapping[str, object]) -> None:
        """Add every number that is finite, and the grid of a validation."""
        for name, value in numbers.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and math.isfinite(cast(float, value)):
                self._writer.add_scalar(f"{kind}/{name}", value, step)
        grid = self._run / GRID.format(step=step)
        if kind == "validation" and grid.exists():
            with Image.open(grid) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image("samples", pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


def _tensorboard() -> "type[SummaryWriter]":
    """Return the writer of event files.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--track tensorboard needs the extra board: pip install 'univae[board]'"
        ) from error
    return SummaryWriter


class NoTracker:
    """Shows nothing."""

    def row(self, kind: str, step: int, numbers: Mapping[str, object]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TrackerKind:
    """A choice of ``--track``.

    ``start(run folder, step of the first row, stored rows from it on)`` returns the tracker.
    ``require()`` raises :class:`InputError` where it cannot start here.
    """

    summary: str
    start: Callable[[Path, int, Iterable[JsonObject]], Tracker]
    require: Callable[[], object]


TRACKERS: Mapping[str, TrackerKind] = {
    "no": TrackerKind(
        "metrics.jsonl and the report alone", lambda run, step, rows: NoTracker(), bool
    ),
    "tensorboard": TrackerKind(
        "event files in RUN/events; needs univae[board]", TensorBoard, _tensorboard
    ),
}

if TYPE_CHECKING:
    TrackerName: TypeAlias = str
else:
    TrackerName = Literal[tuple(TRACKERS)]


@contextmanager
def tracking(
    name: TrackerName, run: Path, step: int, rows: Iterable[JsonObject] = ()
) -> Iterator[Tracker]:
    """Yield a tracker whose first row is of ``step``, and close it.

    ``rows`` are stored rows of that step and after it, which are shown again.
    """
    tracker = TRACKERS[name].start(run, step, rows)
    try:
        yield tracker
    finally:
        tracker.close()
