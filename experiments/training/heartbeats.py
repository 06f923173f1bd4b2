"""Signs of life of the processes that train together, so that none waits for a dead one.

A process that ends closes its connections, and the others notice at once. One that freezes, or a
machine that leaves the network, closes nothing: the others would wait in a collective operation,
whose own limit of time must be that of the longest validation. Every process therefore counts in
the store of the rendezvous, from a thread, and watches the count of its successor.
"""

import os
import sys
import threading
import time
from types import TracebackType

import torch.distributed as dist

__all__ = ["BEAT", "PATIENCE", "Heartbeats"]

BEAT = 5.0  # seconds between two signs of life
PATIENCE = 45.0  # seconds without one, after which a process is taken for dead
EXIT_CODE = 2  # that of PeerEnded
STDERR = 2  # file descriptor
LOST = "heartbeats/lost"  # key of the rank that is taken for dead, plus 1


class Heartbeats:
    """Ends this process, with one line on stderr, where another one has been silent for too long.

    The main thread may wait in a collective operation, which no exception can reach, so the process
    exits: files are replaced as a whole, and the run continues from its last checkpoint.

    Args:
        store: of the rendezvous; its clone has a connection that waits for no other operation.
        rank: the number of this process.
        size: the number of processes.
        beat: seconds between two signs of life.
        patience: seconds of silence after which a process is taken for dead.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        size: int,
        beat: float = BEAT,
        patience: float = PATIENCE,
    ) -> None:
        self._store = store.clone()
        self._rank = rank
        self._watched = (rank + 1) % size
        self._beat = beat
        self._patience = patience
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def __enter__(self) -> "Heartbeats":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(self._beat)

    def _run(self) -> None:
        count = -1
        last = time.monotonic()
        while not self._ended.wait(self._beat):
            try:
                self._store.add(_key(self._rank), 1)
                lost = self._store.add(LOST, 0)
                now = self._store.add(_key(self._watched), 0)
            except RuntimeError:  # the process that holds the store is silent, or has ended
                lost = 0
                now = count
            if lost:
                self._end(lost - 1)
            if now != count:
                count = now
                last = time.monotonic()
            elif time.monotonic() - last > self._patience:
                self._report()
                self._end(self._watched)

    def _report(self) -> None:
        """Tell the other processes which one is taken for dead."""
        try:
            if not self._store.add(LOST, 0):
                self._store.add(LOST, self._watched + 1)
        except RuntimeError:
            return  # they notice by themselves that the store is silent

    def _end(self, rank: int) -> None:
        if self._ended.is_set():
            return
        line = f"process {rank} has shown no sign of life for {self._patience:g} s; --resume goes on"
        sys.stdout.flush()
        os.write(STDERR, f"\n{line} from the last checkpoint\n".encode())
        os._exit(EXIT_CODE)


def _key(rank: int) -> str:
    return f"heartbeats/{rank}"
