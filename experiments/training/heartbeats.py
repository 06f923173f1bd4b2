"""Signs of life of the processes that train together, so that none waits for a dead one.

A process that ends closes its connections, and the others notice at once. One that freezes, or a
machine that leaves the network, closes nothing: the others would wait in a collective operation,
whose own limit of time must be that of the longest validation. Every process therefore counts in
the store of the rendezvous, from a thread, and watches the count of its successor.
"""

import os
import threading
import time
from types import TracebackType

import torch.distributed as dist

__all__ = ["BEAT", "BEATS_TO_TELL", "PATIENCE", "Heartbeats"]

BEAT = 5.0  # seconds between two signs of life
PATIENCE = 45.0  # seconds without one, after which a process is taken for dead
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
        self._store: dist.Store = store.clone()  # type: ignore[attr-defined]
        self._rank = rank
        self._watched = (rank + 1) % size
        self._beat = beat
        self._patience = patience
        self._heard = time.monotonic()  # when the count of the successor last changed
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=target, name="heartbeats", daemon=True)
            for target in (self._talk, self._judge)
        ]

    def __enter__(self) -> "Heartbeats":
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
        known = -1
        while not self._ended.wait(self._beat):
            try:
                self._store.add(_key(self._rank), 1)
                count = self._store.add(_key(self._watched), 0)
                if count == known and self._silence() > self._patience:
                    self._store.set(LOST, str(self._watched))
                if self._store.check([LOST]):
                    self._end(self._store.get(LOST).decode())
            except RuntimeError:  # the process that holds the store has ended
                continue
            if count != known:
                known = count
                self._heard = time.monotonic()

    def _judge(self) -> None:
        """End this process where the store itself does not answer, which blocks the other thread.

        It waits a little longer, so that the other thread can tell all processes.
        """
        while not self._ended.wait(self._beat):
            if self._silence() > self._patience + BEATS_TO_TELL * self._beat:
                self._end(str(self._watched))

    def _silence(self) -> float:
        return time.monotonic() - self._heard

    def _end(self, rank: str) -> None:
        if self._ended.is_set():
            return
        line = (
            f"process {rank} has shown no sign of life for {self._patience:g} s; "
            "--resume continues from the last checkpoint"
        )
        os.write(STDERR, f"\n{line}\n".encode())
        os._exit(EXIT_CODE)


def _key(rank: int) -> str:
    return f"heartbeats/{rank}"
