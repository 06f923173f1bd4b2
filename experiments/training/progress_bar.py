"""Progress for the person at the terminal: a bar, or a line now and then when nobody watches."""

import sys
import time

from tqdm import tqdm

__all__ = ["Bar"]


class Bar:
    """Shows the fraction done on stderr.

    Where stderr is a file, a line every ``every`` seconds at most.
    """

    def __init__(self, shown: bool, every: float = 30.0) -> None:
        self.shown = shown
        self.every = every
        self._spoke = time.monotonic()
        self._terminal = shown and sys.stderr.isatty()
        layout = "{percentage:3.0f}%|{bar}| {postfix}"
        self._bar = tqdm(
            total=1.0, bar_format=layout, file=sys.stderr, disable=not self._terminal, leave=False
        )

    def show(self, fraction: float, step: int, loss: float, speed: float, left: float) -> None:
        """Move the bar, or speaks if it has been silent for long enough; ``left`` is in seconds."""
        silent = time.monotonic() - self._spoke < self.every
        if not self.shown or (silent and not self._terminal):
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
        self._spoke = time.monotonic()
        if self._terminal:
            self._bar.write(text, file=sys.stderr)
        elif self.shown:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
