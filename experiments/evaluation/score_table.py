"""The file of the scores of each datum, beside the cells of a table that is scored."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from density.tables.raw import RawTable
from experiments.data.array_outputs import (
    Contents,
    growing_result,
    holds_text,
    result_file,
)
from experiments.data.growing_files import GrowingFile
from experiments.data.outputs import Output
from experiments.data.table_outputs import joined_columns, number_text, separator_of
from experiments.evaluation.scores import COLUMNS, NATS
from univae.checkpoint import JsonObject
from univae.errors import InputError

__all__ = ["Table", "scores_file"]


def scores_file(
    path: Path | None, inputs: Sequence[str | Path], *, overwrite: bool
) -> Output | None:
    """Return the checked output of scores, in a format of columns; ``None`` without a path.

    Raises:
        InputError: see :func:`experiments.data.array_outputs.result_file`.
    """
    if path is None:
        return None
    return result_file(path, ("columns",), inputs, overwrite=overwrite)


class Table:
    """The columns ``index``, :data:`COLUMNS` with their unit, and ``extra_columns``.

    Where the data are a table with named columns, these stand first, in place of ``index``.
    """

    def __init__(
        self,
        file: GrowingFile,
        extra_columns: Sequence[str],
        data: RawTable | None,
        *,
        as_text: bool,
    ) -> None:
        self._file = file
        self._scores = (*COLUMNS, *extra_columns)
        self._names = [f"{name}_nats" if name in NATS else name for name in self._scores]
        _require_different(() if data is None else data.names, self._names)
        self._cells = None if data is None else joined_columns(data, as_text=as_text)
        self._separator = separator_of(data)
        self._decimal = data.decimal if data is not None and as_text else None
        self._count = 0

    def add(self, row: JsonObject) -> None:
        """Write the scores of the next datum."""
        i = self._count
        columns: dict[str, Sequence[object]] = {"index": (i,)}
        if self._cells is not None:
            columns = {name: (cells[i],) for name, cells in self._cells.items()}
        for name, score in zip(self._names, self._scores, strict=True):
            cell = row[score]
            columns[name] = (cell if self._decimal is None else number_text(cell, self._decimal),)
        self._file.add(Contents(columns=columns, separator=self._separator))
        self._count += 1

    @classmethod
    @contextmanager
    def open(
        cls, out: Output, extra_columns: Sequence[str], data: RawTable | None = None
    ) -> "Iterator[Table]":
        """Yield a table that becomes the file ``out`` when the block ends without an exception.

        A .parquet keeps all scores until then; other formats keep none.

        Args:
            out: the file.
            extra_columns: names of scores besides those of all methods.
            data: the table that is scored, whose cells are joined to the scores.
        """
        with growing_result(out, ("columns",)) as file:
            yield cls(file, extra_columns, data, as_text=holds_text(out))


def _require_different(names: Sequence[str], scores: Sequence[str]) -> None:
    for name in names:
        if name in scores:
            raise InputError(f"--out: column {name!r} of --data has the name of a score; rename it")
