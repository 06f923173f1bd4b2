"""What the battery reads: a target is a kind of input, and one function that reads it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MEMORY", "Target"]

MEMORY = 512 * 2**20  # bytes


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Args:
        name: the name in options and summaries.
        make: writes valid inputs into an empty folder, and returns the files to mutate.
        read: reads the input at a path, which is one of those files after a mutation. It may raise
            InputError, or SystemExit with code 2, and nothing else.
        memory: bytes of address space that one read may take beside what the process has already.
    """

    name: str
    make: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], object]
    memory: int = MEMORY
