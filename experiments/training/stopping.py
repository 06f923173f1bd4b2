"""Exceptions that end a command early, and the handler of Ctrl-C, SIGTERM and SIGHUP.

Nothing heavy is imported here, so that a command can install the handler before its libraries are
loaded.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TypeAlias

from experiments.training.processes import is_first_process

__all__ = [
    "INTERRUPTED",
    "Interrupted",
    "PartlyFailed",
    "PeerEnded",
    "StopRequest",
    "TrainingFailed",
    "exit_on_signals",
]

STDERR = 2  # file descriptor
INTERRUPTED = 130  # exit code, whatever the signal

# What asks a command to stop: Ctrl-C, a scheduler, and a terminal that was closed (POSIX only).
SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP"):
    SIGNALS.append(signal.SIGHUP)

# A result of signal.signal; None where the handler was not installed by Python.
Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class Interrupted(KeyboardInterrupt):
    """A signal stopped a command; one that trains has saved what it had finished.

    A command exits with 130, whatever the signal. ``result`` is the result of one that runs until
    it is stopped, None for others.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


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


class PartlyFailed(RuntimeError):
    """Some parts of a command failed; ``result`` has the others. A command exits with 1."""

    def __init__(self, message: str, result: object) -> None:
        super().__init__(message)
        self.result = result


class StopRequest:
    """Handles signals while the block runs: the first one only sets ``requested``.

    The signals are Ctrl-C (SIGINT), SIGTERM and SIGHUP; a SIGHUP that is ignored, as ``nohup``
    asks, stays ignored. A second Ctrl-C raises :class:`KeyboardInterrupt` at once, but not within
    ``debounce`` seconds: a launcher forwards the terminal's SIGINT to processes that have already
    received it, and then sends SIGTERM. A repeated SIGTERM has no effect while a step ends; with
    ``at_once`` it raises again, for a library may have swallowed the first exception.

    A block inside another one hands a request on when it ends, so that none is lost: the outer one
    then has ``requested`` too, and raises where it is to raise at once.

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
        self._outer: StopRequest | None = None

    def __enter__(self) -> "StopRequest":
        # Python installs signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._outer = _outer_of(signal.getsignal(signal.SIGINT))
            for number in _heeded():
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
        if self.requested and self._outer is not None and not self._outer.requested:
            self._outer.request()
            if self._outer.at_once and error is None:
                raise Interrupted("interrupted")

    def request(self) -> None:
        """Ask to stop, as a signal does."""
        self.requested = True
        self._first_signal = time.monotonic()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            elapsed = time.monotonic() - self._first_signal
            if (number == signal.SIGINT or self.at_once) and elapsed > self.debounce:
                raise KeyboardInterrupt
            return
        self.request()
        if self.at_once:
            raise Interrupted("interrupted")
        if is_first_process():
            # The signal may interrupt a print, whose buffer is then locked: use the system call.
            _write(b"\nstopping after this step and saving; Ctrl-C again aborts at once\n")


def exit_on_signals() -> None:
    """Let each signal end the process by 130 and a line, until another handler is installed."""
    for number in _heeded():
        signal.signal(number, _exit)


def _heeded() -> list[signal.Signals]:
    """Return the signals to handle: one that is ignored, as nohup asks, stays ignored."""
    return [
        number
        for number in SIGNALS
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]


def _exit(number: int, frame: FrameType | None) -> None:
    if is_first_process():
        _write(b"interrupted\n")
    raise SystemExit(INTERRUPTED)


def _write(text: bytes) -> None:
    """Write to stderr, whose reader may have received the signal too, and be gone."""
    with suppress(OSError):
        os.write(STDERR, text)


def _outer_of(handler: Handler) -> StopRequest | None:
    """Return the request whose handler is installed, if it is one of this module."""
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, StopRequest) else None
