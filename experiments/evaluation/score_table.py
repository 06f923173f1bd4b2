"""The .csv file of scores."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from experiments.data.outputs import Output
from experiments.evaluation.scores import COLUMNS, IN_NATS
from univae.checkpoint import JsonObject

__all__ = ["Table"]


class _Writer(Protocol):
    def writerow(self, row: Sequence[object], /) -> object: ...


class Table:
    """A .csv of scores: ``index``, :data:`COLUMNS` with their unit, and further columns."""

    def __init__(self, writer: _Writer | None, others: Sequence[str]) -> None:
        self._writer = writer
        self._others = others
        self._count = 0
        if writer is not None:
            names = [f"{name}_nats" if name in IN_NATS else name for name in COLUMNS]
            writer.writerow(("index", *names, *others))

    def add(self, row: JsonObject) -> None:
        """Write a row, if there is a file to write to."""
        if self._writer is not None:
            values = (row[name] for name in (*COLUMNS, *self._others))
            self._writer.writerow((self._count, *values))
        self._count += 1

    @classmethod
    @contextmanager
    def open(cls, out: Output | None, others: Sequence[str]) -> "Iterator[Table]":
        """Yield a table whose file gets its name once the block ends without an error.

        Without ``out`` the table writes nothing.
        """
        if out is None:
            yield cls(None, others)
            return
        with out.file() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            yield cls(csv.writer(file), others)
