"""Progress on stderr: a bar on a terminal, a line every half minute in a file."""

import sys
import time

from tqdm import tqdm

__all__ = ["Bar"]


class Bar:
    """The fraction of training done, on stderr.

    Where stderr is a file, a line every ``every`` seconds at most.
    """

    def __init__(self, shown: bool, every: float = 30.0) -> None:
        self.shown = shown
        self.every = every
        self._written_at = time.monotonic()
        self._terminal = shown and sys.stderr.isatty()
        layout = "{percentage:3.0f}%|{bar}| {postfix}"
        self._bar = tqdm(
            total=1.0, bar_format=layout, file=sys.stderr, disable=not self._terminal, leave=False
        )

    def show(self, fraction: float, step: int, loss: float, speed: float, left: float) -> None:
        """Move the bar, or write a line if the last one is old enough; ``left`` is in seconds."""
        recent = time.monotonic() - self._written_at < self.every
        if not self.shown or (recent and not self._terminal):
            return
        minutes, seconds = divmod(round(left), 60)
        text = f"step {step}, loss {loss:.4f}, {speed:,.0f} tokens/s, {minutes}:{seconds:02} left"
        if self._terminal:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(min(1.0, fraction) - self._bar.n)
        else:
            self.say(f"{fraction:4.0%}  {text}")

    def say(self, text: str) -> None:
        """Write a line, above the bar if there is one."""
        self._written_at = time.monotonic()
        if self._terminal:
            self._bar.write(text, file=sys.stderr)
        elif self.shown:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
