"""Exceptions that end training early, and the handler of Ctrl-C and SIGTERM."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeAlias

from experiments.training.processes import is_first_process

__all__ = ["Interrupted", "PeerEnded", "StopRequest", "TrainingFailed"]

STDERR = 2  # file descriptor

# A result of signal.signal; None where the handler was not installed by Python.
Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class Interrupted(KeyboardInterrupt):
    """A signal stopped a training command, which has saved what it had finished.

    A command exits with 130.
    """


class PeerEnded(RuntimeError):
    """Another process of the same training has ended, for example because it refused its input.

    A command exits with 2.
    """


class TrainingFailed(FloatingPointError):
    """The loss or its gradient is not finite; the weights are those before this step.

    ``report`` is for ``ERROR.json``. A command exits with 1.
    """

    def __init__(self, message: str, **report: object) -> None:
        super().__init__(message)
        self.report = report


class StopRequest:
    """Handles signals while the block runs: the first Ctrl-C or SIGTERM only sets ``requested``.

    A second Ctrl-C raises :class:`KeyboardInterrupt` at once. A repeated SIGTERM has no effect, nor
    has a second SIGINT within ``debounce`` seconds: a launcher forwards the terminal's SIGINT to
    processes that have already received it, and then sends SIGTERM.

    Args:
        debounce: seconds.
        at_once: whether the first signal raises :class:`Interrupted`, like Python's own handler of
            Ctrl-C. For blocks that take long and change nothing but files, which are replaced as a
            whole: a validation, tokenising, a report. A step must end before it can be saved.
    """

    def __init__(self, debounce: float = 0.5, *, at_once: bool = False) -> None:
        self.requested = False
        self.debounce = debounce
        self.at_once = at_once
        self._first_signal = 0.0  # seconds on the monotonic clock
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> "StopRequest":
        # Python installs signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def request(self) -> None:
        """Ask to stop, as a signal does."""
        self.requested = True
        self._first_signal = time.monotonic()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            elapsed = time.monotonic() - self._first_signal
            if number == signal.SIGINT and elapsed > self.debounce:
                raise KeyboardInterrupt
            return
        self.request()
        if self.at_once:
            raise Interrupted("interrupted")
        if is_first_process():
            # The signal may interrupt a print, whose buffer is then locked: use the system call.
            os.write(
                STDERR, b"\nstopping after this step and saving; Ctrl-C again aborts at once\n"
            )
