"""The scores of any number of data, in little memory: columns of numbers, and the least likely."""

import heapq
import math
from array import array
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from univae.checkpoint import JsonObject

__all__ = ["KEPT", "SHOWN", "ScoreColumns", "Scored"]

KEPT = 10  # records of the least likely data
SHOWN = 10_000  # values of a column that a report gets


class Scored(NamedTuple):
    """A datum that was scored: its number from 0, and its record."""

    number: int
    record: JsonObject


class ScoreColumns:
    """The numbers of the records of scored data, 8 bytes each, and the sum of their ladders.

    Texts are not kept but in the records of the :data:`KEPT` least likely data. The column of a
    number may be None in all records.
    """

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {}
        self._empty: set[str] = set()
        self._ladder: list[float] = []
        self._least: list[tuple[bool, float, int, JsonObject]] = []  # a heap, the most likely first
        self._count = 0

    @classmethod
    def of(cls, records: Iterable[JsonObject]) -> "ScoreColumns":
        """Return the columns of records."""
        columns = cls()
        for record in records:
            columns.add(record)
        return columns

    def add(self, record: JsonObject) -> None:
        """Add the record of the next datum."""
        for name, value in record.items():
            if name == "ladder":
                self._add_ladder(value)
            elif not isinstance(value, str):
                self._add_number(name, value)
        if "log_likelihood" in record:
            self._keep_least(record["log_likelihood"], record)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def column(self, name: str) -> Tensor:
        """Return a column (B,), float64 or int64; NaN for None."""
        values = self._columns[name]
        return torch.frombuffer(values, dtype=_DTYPES[values.typecode]).clone()

    @property
    def datum(self) -> Tensor:
        """A number (B,) of each datum, the same for equal data; all differ without a column."""
        return self.column("datum") if "datum" in self._columns else torch.arange(len(self))

    def has_none(self, name: str) -> bool:
        """Return whether a value of a column is None."""
        return name in self._empty

    def total(self, name: str) -> int:
        """Return the sum of a column of whole numbers or of truth values."""
        return int(sum(self._columns[name]))

    @property
    def stride(self) -> int:
        """The distance of the data that a report shows: :data:`SHOWN` of them at most."""
        return max(1, math.ceil(self._count / SHOWN))

    def shown(self, name: str) -> list[float | None]:
        """Return every :attr:`stride`-th value of a column, None for a column without values."""
        is_empty = name in self._empty
        return [None if is_empty else value for value in self._columns[name][:: self.stride]]

    @property
    def mean_ladder(self) -> list[float]:
        """The mean estimates by number of samples, in nats."""
        return [value / self._count for value in self._ladder]

    @property
    def least_likely(self) -> list[Scored]:
        """The :data:`KEPT` data of the lowest log-likelihood, the lowest first.

        NaN counts as the lowest.
        """
        return [Scored(-minus, record) for _, _, minus, record in sorted(self._least, reverse=True)]

    def _add_number(self, name: str, value: float | None) -> None:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = array("q" if isinstance(value, int) else "d")
        if value is None:
            self._empty.add(name)
        column.append(math.nan if value is None else value)

    def _add_ladder(self, nats: list[float]) -> None:
        sums = self._ladder or [0.0] * len(nats)
        self._ladder = [before + value for before, value in zip(sums, nats, strict=True)]

    def _keep_least(self, value: float, record: JsonObject) -> None:
        is_nan = math.isnan(value)
        entry = (is_nan, 0.0 if is_nan else -value, -self._count, record)
        if len(self._least) < KEPT:
            heapq.heappush(self._least, entry)
        else:
            heapq.heappushpop(self._least, entry)


_DTYPES = {"d": torch.float64, "q": torch.int64}
