"""Progress on stderr: a bar on a terminal, a line every half minute in a file."""

import sys
import time

from tqdm import tqdm

from experiments.training.metric_names import headline
from experiments.training.units import Units
from univae.checkpoint import JsonObject

__all__ = ["Bar", "RowBar"]

INTERVAL = 30.0  # seconds between lines, at least

UNSELECTED = "unselected"  # key of the reason why a finite validation has no selection


class Bar:
    """The progress of training on stderr: a bar on a terminal, otherwise lines.

    Args:
        visible: whether anything is printed.
        units: the words for the data.
        steps: number of steps of the training; 0: time limits it.
        interval: seconds between lines, at least.
    """

    def __init__(
        self,
        visible: bool,
        units: Units = Units(),  # noqa: B008, as it is frozen
        steps: int = 0,
        interval: float = INTERVAL,
    ) -> None:
        self.visible = visible
        self.units = units
        self.steps = steps
        self.interval = interval
        self.speed = 0.0  # of the last step
        self._noted = set[str]()
        self._last_line = time.monotonic()
        self._terminal = visible and sys.stderr.isatty()
        layout = "{percentage:3.0f}%|{bar}| {postfix}"
        self._bar = tqdm(
            total=1.0, bar_format=layout, file=sys.stderr, disable=not self._terminal, leave=False
        )

    def update(
        self, fraction: float, step: int, loss: float, speed: float, remaining: float
    ) -> None:
        """Move the bar, or print a line if the last one is ``interval`` seconds old.

        ``speed`` is in targets per second, ``remaining`` in seconds.
        """
        self.speed = speed
        recent = time.monotonic() - self._last_line < self.interval
        if not self.visible or (recent and not self._terminal):
            return
        left = f"{_clock(remaining)} left"
        text = f"{self._step_words(step)} · loss {loss:.4f} · {self._speed_words()} · {left}"
        if self._terminal:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(min(1.0, fraction) - self._bar.n)
        else:
            self.write_line(f"{fraction:4.0%}  {text}")

    def write_validation(self, step: int, metrics: JsonObject, *, improved: bool) -> None:
        """Print the main numbers of a validation with their units, then its notes."""
        words = [self._step_words(step)]
        values = headline(metrics, self.units.datum)
        if values:
            words.append(values)
        if metrics["selection"] is None:
            words.append(metrics.get(UNSELECTED, "not finite"))
        if self.speed:
            words.append(self._speed_words())
        if improved:
            words.append("the best so far")
        self.write_line(" · ".join(words))
        for note in metrics.get("notes", []):
            self.write_note(note)

    def write_line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._last_line = time.monotonic()
        if self._terminal:
            self._bar.write(text, file=sys.stderr)
        elif self.visible:
            print(text, file=sys.stderr, flush=True)

    def write_note(self, note: str) -> None:
        """Print a note; nothing where it is empty, or has been printed."""
        if note and note not in self._noted:
            self._noted.add(note)
            self.write_line(f"note: {note}")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _step_words(self, step: int) -> str:
        """Return the number of steps taken, of all where they are limited."""
        return f"step {step:,}/{self.steps:,}" if self.steps else f"step {step:,}"

    def _speed_words(self) -> str:
        return f"{self.speed:,.0f} {self.units.counted}/s"


class RowBar:
    """The progress of work on rows on stderr: a bar on a terminal, otherwise lines.

    Args:
        total: the rows; 0: not known.
        action: what is done to them, such as "compressing".
        interval: seconds between lines, at least.
    """

    def __init__(self, total: int, action: str, interval: float = INTERVAL) -> None:
        self.total = total
        self.action = action
        self.interval = interval
        self.done = 0
        self._start = time.monotonic()
        self._last_line = self._start
        size = total or None
        self._bar = tqdm(total=size, desc=action, file=sys.stderr, disable=None, leave=False)

    def __enter__(self) -> "RowBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        """Count rows as done, or as not done where ``count`` is negative."""
        self.done += count
        self._bar.update(count)
        now = time.monotonic()
        if not self._bar.disable or self.done < 1 or now - self._last_line < self.interval:
            return
        self._last_line = now
        print(f"{self.action} {self._progress(now)}", file=sys.stderr, flush=True)

    def _progress(self, now: float) -> str:
        """Return the rows done, and the time that the others take where their number is known."""
        if not self.total:
            return f"{self.done:,} rows in {_clock(now - self._start)}"
        remaining = (now - self._start) / self.done * max(0, self.total - self.done)
        share = f"{self.done / self.total:4.0%}  {self.done:,} of {self.total:,} rows"
        return f"{share}, {_clock(remaining)} left"


def _clock(seconds: float) -> str:
    """Return minutes and seconds as 1:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
