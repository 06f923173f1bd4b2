"""The file of the scores of each datum, beside the cells of a table that is scored."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from density.tables.raw import RawTable
from experiments.data.array_outputs import Contents, holds_text, result_file, write_result
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

    def __init__(self, extra_columns: Sequence[str], data: RawTable | None = None) -> None:
        self._scores = (*COLUMNS, *extra_columns)
        self._data = data
        self._rows: list[JsonObject] = []
        _require_different(() if data is None else data.names, self._names())

    def add(self, row: JsonObject) -> None:
        """Add the scores of the next datum."""
        self._rows.append(row)

    def contents(self, *, as_text: bool) -> Contents:
        """Return the columns; ``as_text``: the cells of the data as they are written in a .csv."""
        count = len(self._rows)
        columns: dict[str, Sequence[object]] = {"index": range(count)}
        if self._data is not None:
            columns = joined_columns(self._data, as_text=as_text)
            columns = {name: cells[:count] for name, cells in columns.items()}
        for name, score in zip(self._names(), self._scores, strict=True):
            cells = [row[score] for row in self._rows]
            if as_text and self._data is not None:
                cells = [number_text(cell, self._data.decimal) for cell in cells]
            columns[name] = cells
        return Contents(columns=columns, separator=separator_of(self._data))

    @classmethod
    @contextmanager
    def open(
        cls, out: Output | None, extra_columns: Sequence[str], data: RawTable | None = None
    ) -> "Iterator[Table]":
        """Yield a table that becomes the file ``out`` when the block ends without an exception.

        Without ``out`` nothing is written.

        Args:
            out: the file.
            extra_columns: names of scores besides those of all methods.
            data: the table that is scored, whose cells are joined to the scores.
        """
        if out is None:
            yield cls(extra_columns)
            return
        table = cls(extra_columns, data)
        yield table
        write_result(out, table.contents(as_text=holds_text(out)))

    def _names(self) -> list[str]:
        return [f"{name}_nats" if name in NATS else name for name in self._scores]


def _require_different(names: Sequence[str], scores: Sequence[str]) -> None:
    for name in names:
        if name in scores:
            raise InputError(f"--out: column {name!r} of --data has the name of a score; rename it")
