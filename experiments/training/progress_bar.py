"""Progress on stderr: a bar on a terminal, a line every half minute in a file."""

import sys
import time

from tqdm import tqdm

__all__ = ["Bar"]


class Bar:
    """The progress of training on stderr: a bar on a terminal, otherwise lines.

    Args:
        visible: whether anything is printed.
        interval: seconds between lines, at least.
    """

    def __init__(self, visible: bool, interval: float = 30.0) -> None:
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
        minutes, seconds = divmod(round(remaining), 60)
        text = f"step {step}, loss {loss:.4f}, {speed:,.0f} tokens/s, {minutes}:{seconds:02} left"
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

    def write_note(self, note: str) -> None:
        """Print a note; nothing where it is empty."""
        if note:
            self.write_line(f"note: {note}")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
