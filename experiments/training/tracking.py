"""A run's metrics for programs that show them while it trains, beside ``metrics.jsonl``.

``--track tensorboard`` writes event files into the folder ``events`` of the run, which
``tensorboard --logdir RUNS`` reads: a curve for every number, named after its kind and itself
(``train/loss``, ``validation/nll_nats``), the grids of images that validations write, the texts
that the model writes, and its latents or vectors of held-out data for the projector (not where its
weights are divided over processes). A resumed run replaces what it had written after its
checkpoint.

``--track trackio`` writes numbers and grids into the local project of Trackio that is named after
the folder of the run's folder; ``trackio show`` serves it. Trackio does not replace what was
written, so a resumed run is a run of its own there, from the step of its checkpoint on.
"""

import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from PIL import Image

from experiments.training.task import Shown
from univae.checkpoint import JsonObject
from univae.errors import InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["EVENTS", "TRACKERS", "NoTracker", "Tracker", "TrackerName", "tracking"]

EVENTS = "events"  # folder of a run
VECTORS = "held_out"  # name of the vectors in the projector
GRID = "samples/step_{step:06d}.png"  # that a validation of images writes


@runtime_checkable
class Tracker(Protocol):
    """A program that shows the metrics of a training."""

    def row(self, kind: str, step: int, numbers: Mapping[str, object]) -> None:
        """Add a row of metrics."""

    @property
    def shows_models(self) -> bool:
        """Whether :meth:`show` does anything."""
        ...

    def show(self, step: int, shown: Shown) -> None:
        """Add what a validation shows beside its row."""

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
        _show(rows, self)

    def row(self, kind: str, step: int, numbers: Mapping[str, object]) -> None:
        """Add every number that is finite, and the grid of a validation."""
        for name, value in _curves(kind, numbers).items():
            self._writer.add_scalar(name, value, step)
        pixels = _grid(self._run, kind, step)
        if pixels is not None:
            self._writer.add_image("samples", pixels, step, dataformats="HWC")
        self._writer.flush()

    shows_models = True

    def show(self, step: int, shown: Shown) -> None:
        """Add the texts, and the vectors for the projector."""
        for title, texts in shown.texts.items():
            self._writer.add_text(title, "\n".join(f"    {text}" for text in texts), step)
        folder = self._run / EVENTS / f"{step:05d}" / VECTORS
        shutil.rmtree(folder, ignore_errors=True)  # of the same step before the run was resumed
        self._writer.add_embedding(
            shown.vectors.float().cpu(), list(shown.labels), global_step=step, tag=VECTORS
        )
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


class Trackio:
    """A run of a local project of Trackio.

    Args:
        run: the run folder, which the run is named after; its folder is the project.
        step: of the first row; a resumed run is named after it, too.
        rows: those of that step and after it which a checkpoint stored.

    Raises:
        InputError: Trackio is not installed.
    """

    def __init__(self, run: Path, step: int, rows: Iterable[JsonObject]) -> None:
        self._library = _trackio()
        self._run = run
        folder = run.resolve()
        name = f"{folder.name} from step {step}" if step else folder.name
        with redirect_stdout(sys.stderr):  # stdout is for the result of the command
            self._tracked = self._library.init(
                folder.parent.name or "univae",
                name=name,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        _show(rows, self)

    def row(self, kind: str, step: int, numbers: Mapping[str, object]) -> None:
        """Add every number that is finite, and the grid of a validation."""
        shown: dict[str, object] = dict(_curves(kind, numbers))
        pixels = _grid(self._run, kind, step)
        if pixels is not None:
            shown["samples"] = self._library.Image(pixels)
        if shown:
            self._tracked.log(shown, step=step)

    shows_models = False

    def show(self, step: int, shown: Shown) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Write what is not written yet."""
        with redirect_stdout(sys.stderr):
            self._tracked.finish()


def _trackio() -> Any:
    """Return the library Trackio.

    Raises:
        InputError: it is not installed.
    """
    try:
        import trackio
    except ImportError as error:
        raise InputError(
            "--track trackio needs the extra trackio: pip install 'univae[trackio]'"
        ) from error
    return trackio


def _show(rows: Iterable[JsonObject], tracker: Tracker) -> None:
    """Add stored rows of metrics."""
    for row in rows:
        numbers = {name: value for name, value in row.items() if name not in ("kind", "step")}
        tracker.row(row["kind"], row["step"], numbers)


def _curves(kind: str, numbers: Mapping[str, object]) -> dict[str, float]:
    """Return the finite numbers of a row, named after its kind and themselves."""
    curves = {}
    for name, value in numbers.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and math.isfinite(cast(float, value)):
            curves[f"{kind}/{name}"] = cast(float, value)
    return curves


def _grid(run: Path, kind: str, step: int) -> np.ndarray | None:
    """Return the grid of images (height, width, 3) of a validation, None where there is none."""
    path = run / GRID.format(step=step)
    if kind != "validation" or not path.exists():
        return None
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


class NoTracker:
    """Shows nothing."""

    shows_models = False

    def show(self, step: int, shown: Shown) -> None:
        """Do nothing."""

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
    "trackio": TrackerKind("a local project of Trackio; needs univae[trackio]", Trackio, _trackio),
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
