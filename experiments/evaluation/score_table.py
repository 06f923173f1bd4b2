"""A .csv file of scores, written row by row as they are computed."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from experiments.data.outputs import Output
from experiments.evaluation.scores import COLUMNS, NATS
from univae.checkpoint import JsonObject

__all__ = ["Table"]


@runtime_checkable
class Writer(Protocol):
    """What :func:`csv.writer` returns."""

    def writerow(self, row: Sequence[object], /) -> object:
        """Write one line."""
        ...


class Table:
    """A .csv with the columns ``index``, :data:`COLUMNS` with their unit, and ``extra_columns``."""

    def __init__(self, writer: Writer | None, extra_columns: Sequence[str]) -> None:
        self._writer = writer
        self._extra_columns = extra_columns
        self._count = 0
        columns = [f"{name}_nats" if name in NATS else name for name in COLUMNS]
        if writer is not None:
            writer.writerow(("index", *columns, *extra_columns))

    def add(self, row: JsonObject) -> None:
        """Write a row, if there is a file to write to."""
        if self._writer is not None:
            cells = [row[name] for name in (*COLUMNS, *self._extra_columns)]
            self._writer.writerow((self._count, *cells))
        self._count += 1

    @classmethod
    @contextmanager
    def open(cls, out: Output | None, extra_columns: Sequence[str]) -> "Iterator[Table]":
        """Yield a table that becomes the file ``out`` when the block ends without an exception.

        Without ``out`` the table writes nothing.
        """
        if out is None:
            yield cls(None, extra_columns)
            return
        with out.file() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            yield cls(csv.writer(file), extra_columns)
