"""Progress on stderr: a bar on a terminal, a line every half minute in a file."""

import sys
import time

from tqdm import tqdm

__all__ = ["Bar"]


class Bar:
    """The progress of training on stderr: a bar on a terminal, otherwise lines.

    Args:
        visible: whether anything is printed.
        counted: what the speed counts, such as tokens.
        interval: seconds between lines, at least.
    """

    def __init__(self, visible: bool, counted: str = "data", interval: float = 30.0) -> None:
        self.visible = visible
        self.counted = counted
        self.interval = interval
        self._last_line = time.monotonic()
        self._terminal = visible and sys.stderr.isatty()
        layout = "{percentage:3.0f}%|{bar}| {postfix}"
        self._bar = tqdm(
            total=1.0, bar_format=layout, file=sys.stderr, disable=not self._terminal, leave=False
        )

    def update(
        self, fraction: float, step: str, loss: float, speed: float, remaining: float
    ) -> None:
        """Move the bar, or print a line if the last one is ``interval`` seconds old.

        ``step`` says how many are taken, ``speed`` is per second, ``remaining`` in seconds.
        """
        recent = time.monotonic() - self._last_line < self.interval
        if not self.visible or (recent and not self._terminal):
            return
        minutes, seconds = divmod(round(remaining), 60)
        left = f"{minutes}:{seconds:02} left"
        text = f"step {step} · loss {loss:.4f} · {speed:,.0f} {self.counted}/s · {left}"
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
