"""``metrics.jsonl``: one JSON object a line, with ``kind``, ``step`` and numbers."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from univae.checkpoint import sync, to_json
from univae.disk_errors import naming

__all__ = ["TIMING", "MetricsFile"]

# Numbers that differ between two runs of one configuration on one machine.
TIMING = ("seconds", "tokens_per_second")

BLOCK = 2**20  # bytes read at once
LINE_END = b"\n"


class MetricsFile:
    """The rows of metrics of a run; the file is created with the first row.

    They are counted in memory, so that a checkpoint takes as long after many rows as after few.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count: int | None = None  # of complete rows; None: not counted yet

    @property
    def count(self) -> int:
        """The number of complete rows; the file is read once."""
        if self._count is None:
            self._count, _ = self._end_of_rows()
        return self._count

    def append(self, row: Mapping[str, object]) -> None:
        """Write one row; numbers that are not finite become null."""
        count = self.count
        line = json.dumps(to_json(row), ensure_ascii=False, allow_nan=False)
        with naming(self.path), self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(line + "\n")
        self._count = count + 1

    def truncate(self, count: int) -> None:
        """Remove all rows after the first ``count``, and a last one that was cut off."""
        self._count, end = self._end_of_rows(count)
        if self.path.exists() and self.path.stat().st_size > end:
            with self.path.open("r+b") as file:
                file.truncate(end)
            sync(self.path)

    def sync(self) -> None:
        """Return when the rows are on disk."""
        if self.path.exists():
            sync(self.path)

    def _end_of_rows(self, most: int | None = None) -> tuple[int, int]:
        """Return the number of complete rows, at most ``most``, and the byte after them."""
        rows = 0
        end = 0
        start = 0  # of the block
        if not self.path.exists() or most == 0:
            return rows, end
        with self.path.open("rb") as file:
            for block in iter(partial(file.read, BLOCK), b""):
                in_block = block.count(LINE_END)
                if most is not None and rows + in_block >= most:
                    return most, start + _end_of_line(block, most - rows)
                rows += in_block
                end = start + block.rindex(LINE_END) + 1 if in_block else end
                start += len(block)
        return rows, end


def _end_of_line(block: bytes, number: int) -> int:
    """Return the byte after the end of a line of a block; lines are counted from 1."""
    end = 0
    for _ in range(number):
        end = block.index(LINE_END, end) + 1
    return end
