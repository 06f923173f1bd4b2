"""Long calls of libraries, which signals can end.

Python answers a signal between two of its own instructions, so that Ctrl-C waits for a call of a
compiled library to return, which may take minutes.
"""

import threading
from collections.abc import Callable

__all__ = ["call_interruptibly"]


def call_interruptibly(function: Callable[[], object]) -> None:
    """Call a function in a thread of its own, and return when it does.

    Where a signal's handler raises meanwhile, its exception is raised at once; the thread goes on
    until it has ended, or the process has. Its result is then lost, and must not be used.

    Raises:
        Exception: what the function raises.
    """
    raised: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
