"""Answers in turn: one at a time, and the one in progress can be ended."""

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Ended", "Turns"]

GRACE = 60.0  # seconds; an exception is raised between two operations of the library

Value = TypeVar("Value")


class Ended(BaseException):
    """The call was ended."""


class Turns:
    """Calls functions of any threads in turn.

    Draws share the random generators, and a process cannot exit while a thread of it computes.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._guard = threading.Lock()  # of the two below
        self._thread: int | None = None  # that computes
        self._has_ended = False

    def take(self, function: Callable[[], Value]) -> Value:
        """Call a function when those before it have returned.

        Raises:
            Ended: :meth:`end` was called.
        """
        with self._turn:
            with self._guard:
                if self._has_ended:
                    raise Ended
                self._thread = threading.get_ident()
            try:
                return function()
            finally:
                with self._guard:
                    self._thread = None

    def end(self) -> None:
        """End the call in progress between two of its operations, wait for it, and take no more."""
        with self._guard:
            self._has_ended = True
            if self._thread is not None:
                thread = ctypes.c_ulong(self._thread)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(Ended))
        if self._turn.acquire(timeout=GRACE):
            self._turn.release()
