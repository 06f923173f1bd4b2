"""Signs of life of the processes that train together, so that none waits for a dead one.

A process that ends closes its connections, and the others notice at once. One that freezes, or a
machine that leaves the network, closes nothing: the others would wait in a collective operation,
whose own limit of time must be that of the longest validation. Every process therefore counts in
the store of the rendezvous, from a thread, and watches the count of its successor.

A call into a library that keeps Python's lock stops that thread, too. A successor on the same
machine that takes processor time is therefore alive; one on another machine may need more patience,
which ``UNIVAE_PATIENCE`` gives it.
"""

import math
import os
import threading
from collections.abc import Mapping
from types import TracebackType

import torch.distributed as dist

from experiments.training.silence import Silence, identity, processor_time
from univae.errors import InputError

__all__ = ["BEAT", "BEATS_TO_TELL", "PATIENCE", "VARIABLE", "Heartbeats", "patience_of"]

BEAT = 5.0  # seconds between two signs of life
PATIENCE = 45.0  # seconds without one, after which a process is taken for dead
VARIABLE = "UNIVAE_PATIENCE"  # environment variable with another number
EXIT_CODE = 2  # that of PeerEnded
STDERR = 2  # file descriptor
LOST = "heartbeats/lost"  # key of the process that is taken for dead
BEATS_TO_TELL = 2


class Heartbeats:
    """Ends this process, with one line on stderr, where another one has been silent for too long.

    The main thread may wait in a collective operation, which no exception can reach, so the process
    exits: files are replaced as a whole, and the run continues from its last checkpoint.

    Args:
        store: of the rendezvous; its clone has a connection that waits for no other operation.
        rank: the number of this process.
        size: the number of processes.
        beat: seconds between two signs of life.
        patience: seconds of silence after which a process is taken for dead; None: those of
            :func:`patience_of`.

    Raises:
        InputError: the environment variable holds no such number.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        size: int,
        beat: float = BEAT,
        patience: float | None = None,
    ) -> None:
        self._store: dist.Store = store.clone()  # type: ignore[attr-defined]
        self._rank = rank
        self._watched = (rank + 1) % size
        self._beat = beat
        self._patience = patience_of(os.environ) if patience is None else patience
        self._silence = Silence(beat)  # of the successor
        self._known = (-1, -1)  # its count, and its processor time where it can be seen
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=target, name="heartbeats", daemon=True)
            for target in (self._talk, self._judge)
        ]

    def __enter__(self) -> "Heartbeats":
        self._store.set(_process_key(self._rank), identity())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(self._beat)

    def _talk(self) -> None:
        """Count, and read the count of the successor, until the end of the block."""
        while not self._ended.wait(self._beat):
            try:
                self._store.add(_key(self._rank), 1)
                if self._is_heard():
                    self._silence.end()
                elif self._silence.seconds > self._patience:
                    self._store.set(LOST, str(self._watched))
                if self._store.check([LOST]):
                    self._end(self._store.get(LOST).decode())
            except RuntimeError:  # the process that holds the store has ended
                continue

    def _is_heard(self) -> bool:
        """Return whether the successor has counted, or taken processor time, since before."""
        count = self._store.add(_key(self._watched), 0)
        ticks = None
        if self._store.check([_process_key(self._watched)]):
            ticks = processor_time(self._store.get(_process_key(self._watched)).decode())
        before, self._known = self._known, (count, -1 if ticks is None else ticks)
        return self._known != before

    def _judge(self) -> None:
        """End this process where the store itself does not answer, which blocks the other thread.

        It waits a little longer, so that the other thread can tell all processes.
        """
        while not self._ended.wait(self._beat):
            self._silence.count()
            if self._silence.seconds > self._patience + BEATS_TO_TELL * self._beat:
                self._end(str(self._watched))

    def _end(self, rank: str) -> None:
        if self._ended.is_set():
            return
        line = (
            f"process {rank} has shown no sign of life for {self._patience:g} s: it is frozen or "
            f"cannot be reached, or it was only busy, for which {VARIABLE} (seconds) may be "
            "larger; --resume continues from the last checkpoint"
        )
        os.write(STDERR, f"\n{line}\n".encode())
        os._exit(EXIT_CODE)


def patience_of(environment: Mapping[str, str]) -> float:
    """Return the seconds of ``UNIVAE_PATIENCE``, by default :data:`PATIENCE`.

    Raises:
        InputError: it holds no number, or one of less than two beats.
    """
    text = environment.get(VARIABLE, "") or str(PATIENCE)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 2 * BEAT <= seconds < math.inf:
        raise InputError(
            f"{VARIABLE} must be a number of seconds, at least {2 * BEAT:g}; got {text!r}; "
            f"leave it out for {PATIENCE:g}"
        )
    return seconds


def _key(rank: int) -> str:
    return f"heartbeats/{rank}"


def _process_key(rank: int) -> str:
    return f"heartbeats/{rank}/process"
