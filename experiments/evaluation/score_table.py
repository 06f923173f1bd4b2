"""A .csv file of scores, written row by row as they are computed."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from density.tables.raw import RawTable
from experiments.data.outputs import Output
from experiments.evaluation.scores import COLUMNS, NATS
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["Table"]


@runtime_checkable
class Writer(Protocol):
    """What :func:`csv.writer` returns."""

    def writerow(self, row: Sequence[object], /) -> object:
        """Write one line."""
        ...


class Table:
    """A .csv with the columns ``index``, :data:`COLUMNS` with their unit, and ``extra_columns``.

    Where the data are a table with named columns, these stand first, in place of ``index``.
    """

    def __init__(
        self, writer: Writer | None, extra_columns: Sequence[str], data: RawTable | None = None
    ) -> None:
        self._writer = writer
        self._extra_columns = extra_columns
        self._count = 0
        self._cells = [] if data is None else [data.written(name) for name in data.names]
        names = ["index"] if data is None else list(data.names)
        columns = [f"{name}_nats" if name in NATS else name for name in COLUMNS]
        _require_different(names, (*columns, *extra_columns))
        if writer is not None:
            writer.writerow((*names, *columns, *extra_columns))

    def add(self, row: JsonObject) -> None:
        """Write a row, if there is a file to write to."""
        if self._writer is not None:
            scores = [row[name] for name in (*COLUMNS, *self._extra_columns)]
            datum = [column[self._count] for column in self._cells] or [str(self._count)]
            self._writer.writerow((*datum, *scores))
        self._count += 1

    @classmethod
    @contextmanager
    def open(
        cls, out: Output | None, extra_columns: Sequence[str], data: RawTable | None = None
    ) -> "Iterator[Table]":
        """Yield a table that becomes the file ``out`` when the block ends without an exception.

        Without ``out`` the table writes nothing.

        Args:
            out: the file.
            extra_columns: names of scores besides those of all methods.
            data: the table that is scored, whose cells are joined to the scores.
        """
        if out is None:
            yield cls(None, extra_columns)
            return
        with out.file() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            yield cls(csv.writer(file), extra_columns, data)


def _require_different(names: Sequence[str], scores: Sequence[str]) -> None:
    for name in names:
        if name in scores:
            raise InputError(f"--out: column {name!r} of --data has the name of a score; rename it")
