"""How training ends early: a signal stops it, or a number that is not finite."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeAlias

from experiments.training.processes import is_first_process

__all__ = ["Interrupted", "PeerEnded", "StopRequest", "TrainingFailed"]

# As signal.signal returns it; None where it was not set from Python.
Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class Interrupted(KeyboardInterrupt):
    """Training stopped because it was asked to, after a step it finished and saved.

    A command exits with 130.
    """


class PeerEnded(RuntimeError):
    """Another process of the same training has ended, because it refused its input, say.

    A command exits with 2.
    """


class TrainingFailed(FloatingPointError):
    """The loss or its gradient is not a finite number.

    Nothing was updated with it; a command exits with 1.
    """

    def __init__(self, message: str, **report: object) -> None:
        super().__init__(message)
        self.report = report


class StopRequest:
    """While the block runs, Ctrl-C or SIGTERM only sets ``asked``; a second Ctrl-C raises at once.

    A repeated SIGTERM changes nothing, nor does a second SIGINT within ``echo`` seconds: a launcher
    passes the terminal's SIGINT on to processes that the terminal has already sent it to, and then
    sends SIGTERM.
    """

    def __init__(self, echo: float = 0.5) -> None:
        self.asked = False
        self.echo = echo
        self._first = 0.0
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> "StopRequest":
        # Python allows signal handlers in the main thread alone.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._notice)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            if number == signal.SIGINT and time.monotonic() - self._first > self.echo:
                raise KeyboardInterrupt
            return
        self.asked = True
        self._first = time.monotonic()
        if is_first_process():
            # A handler may run in the middle of a print: only the system call is safe here.
            os.write(2, b"\nstopping after this step and saving; Ctrl-C again aborts at once\n")
