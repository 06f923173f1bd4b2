"""Standard streams that outlive their readers, so that no training is lost for the sake of a note.

Ctrl-C ends both sides of ``command 2>&1 | tee log``, and a terminal that is closed cannot be
written either, while the command still has to save. Without a stream (``2>&-``) Python has None in
its place.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

__all__ = ["lasting_streams"]

CLOSED = (errno.EPIPE, errno.EIO)  # of a pipe without a reader, and of a closed terminal


class _Lasting:
    """A text stream that discards what it is given once its reader is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._discard(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._discard(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _discard(self, error: OSError) -> None:
        """Redirect the descriptor to the null device; raise any other error."""
        if error.errno not in CLOSED:
            raise error
        # The stream still buffers what it could not write, and would fail again at exit.
        with suppress(OSError, ValueError):  # a stream without a descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let writing to stderr never fail for a reader that is gone, while the block runs.

    A stdout or stderr that is missing is the null device. A closed stdout still raises
    :class:`BrokenPipeError`: a result that nobody reads ends the command.
    """
    if isinstance(sys.stderr, _Lasting):
        yield
        return
    with ExitStack() as stack:
        # None where the descriptor was closed; the null device takes it, so that no file does
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is None:
                null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect(null))
        stack.enter_context(redirect_stderr(cast("TextIO", _Lasting(sys.stderr))))
        yield
