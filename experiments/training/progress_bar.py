"""Progress on stderr: a bar on a terminal, a line every half minute in a file."""

import sys
import time

from tqdm import tqdm

__all__ = ["Bar", "RowBar"]

INTERVAL = 30.0  # seconds between lines, at least


class Bar:
    """The progress of training on stderr: a bar on a terminal, otherwise lines.

    Args:
        visible: whether anything is printed.
        interval: seconds between lines, at least.
    """

    def __init__(self, visible: bool, interval: float = INTERVAL) -> None:
        self.visible = visible
        self.interval = interval
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
        recent = time.monotonic() - self._last_line < self.interval
        if not self.visible or (recent and not self._terminal):
            return
        text = f"step {step}, loss {loss:.4f}, {speed:,.0f} tokens/s, {_clock(remaining)} left"
        if self._terminal:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(min(1.0, fraction) - self._bar.n)
        else:
            self.write_line(f"{fraction:4.0%}  {text}")

    def write_line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._last_line = time.monotonic()
        if self._terminal:
            self._bar.write(text, file=sys.stderr)
        elif self.visible:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


class RowBar:
    """The progress of work on rows on stderr: a bar on a terminal, otherwise lines.

    Args:
        total: the rows.
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
        self._bar = tqdm(total=total, desc=action, file=sys.stderr, disable=None, leave=False)

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
        remaining = (now - self._start) / self.done * max(0, self.total - self.done)
        share = f"{self.done / self.total:4.0%}  {self.done:,} of {self.total:,} rows"
        print(f"{self.action} {share}, {_clock(remaining)} left", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """Return minutes and seconds as 1:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
