"""The schema of a table: the name, kind and categories of every column that a model sees."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from density.tables.kinds import COLUMN_KINDS, Category, Kind
from density.tables.raw import RawTable
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import lookup

__all__ = ["Column", "Columns"]


@dataclass(frozen=True)
class Column:
    """A column of a schema.

    Args:
        name: its name in files and data frames.
        kind: a row of :data:`density.tables.kinds.COLUMN_KINDS`.
        categories: the values of a categorical column, in the order of their codes.
    """

    name: str
    kind: str
    categories: tuple[Category, ...] = ()

    @property
    def rules(self) -> Kind:
        """The object of the kind, which encodes and decodes."""
        return lookup(COLUMN_KINDS, self.kind, f"column {self.name!r}: kind")

    def describe(self) -> str:
        """Return the column in a few words, for notes."""
        values = f", {len(self.categories)} values" if self.categories else ""
        return f"{self.name}: {self.kind}{values}"


class Columns:
    """The schema of a table, which maps cells to numbers and back.

    An encoded table is float64 (N, columns): numbers and counts in the units of the data,
    categories as 0, 1, ..., and NaN for missing cells.

    Args:
        columns: the columns.
        missing: the texts that stand for a missing cell, see
            :class:`density.tables.raw.RawTable`.
    """

    def __init__(self, columns: Sequence[Column], missing: Sequence[str] | None = None) -> None:
        self._columns = tuple(columns)
        self.missing = None if missing is None else tuple(missing)

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns)

    def __getitem__(self, index: int) -> Column:
        return self._columns[index]

    def __len__(self) -> int:
        return len(self._columns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Columns):
            return False
        return (self._columns, self.missing) == (other._columns, other.missing)

    def __hash__(self) -> int:
        return hash((self._columns, self.missing))

    def __repr__(self) -> str:
        return f"Columns({'; '.join(column.describe() for column in self)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the columns."""
        return tuple(column.kind for column in self)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of categories of each column, 0 for numbers and counts."""
        return tuple(len(column.categories) for column in self)

    @property
    def all_numeric(self) -> bool:
        """Whether every column holds real numbers."""
        return all(kind == "numeric" for kind in self.kinds)

    def encode(self, table: RawTable) -> np.ndarray:
        """Return the columns of the schema as float64 (N, columns), NaN for missing cells.

        Raises:
            InputError: a column is missing, or a cell does not fit; the message names it.
        """
        table = replace(table, missing=self.missing)
        values = np.empty((len(table), len(self)))
        for i, column in enumerate(self):
            values[:, i] = column.rules.encode(table, column.name, column.categories)
        return values

    def decode(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the cells (N,) of each column by name from encoded values (N, columns).

        Numbers and counts are float64; categories are objects, None where a value is missing.

        Raises:
            InputError: the array has another number of columns.
        """
        if values.ndim != 2 or values.shape[1] != len(self):  # noqa: PLR2004  rows and columns
            raise InputError(
                f"decode: needs rows of {len(self)} columns; got an array of shape {values.shape}"
            )
        return {
            column.name: column.rules.decode(values[:, i], column.categories)
            for i, column in enumerate(self)
        }

    def check(self, values: np.ndarray) -> None:
        """Raise :class:`InputError` for encoded values (N, columns) that no cell has."""
        for i, column in enumerate(self):
            wrong = column.rules.outside(values[:, i], column.categories)
            if wrong.any():
                row = int(wrong.argmax())
                raise InputError(
                    f"data: column {column.name!r} must hold {column.rules.rule(column.categories)}"
                    f"; got {values[row, i]:g} in row {row} (from 0); correct it, or give a data "
                    "frame with the values themselves"
                )

    def to_json(self) -> list[JsonObject]:
        """Return the schema as plain values; every column has the marks of missing cells, if any.

        A run of an older version has none.
        """
        marks = {} if self.missing is None else {"missing": list(self.missing)}
        return [asdict(column) | marks for column in self]

    @classmethod
    def from_json(cls, stored: Sequence[Mapping[str, object]]) -> "Columns":
        """Return the schema of plain values.

        Raises:
            InputError: a value is missing or of another type.
        """
        try:
            columns = [
                Column(str(entry["name"]), str(entry["kind"]), tuple(entry["categories"]))  # type: ignore[arg-type]
                for entry in stored
            ]
            marks = stored[0].get("missing") if stored else None
            missing = None if marks is None else tuple(map(str, marks))  # type: ignore[call-overload]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"columns: not the schema of a table ({error}); the run folder is damaged"
            ) from error
        for column in columns:
            lookup(COLUMN_KINDS, column.kind, f"column {column.name!r}: kind")
        return cls(columns, missing)

    @classmethod
    def numeric(cls, names: Sequence[str]) -> "Columns":
        """Return a schema of real numbers."""
        return cls([Column(name, "numeric") for name in names])
