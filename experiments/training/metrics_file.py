"""``metrics.jsonl``: one JSON object a line, with ``kind``, ``step`` and numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from univae.checkpoint import sync, to_json, write_text_atomic
from univae.disk_errors import naming

__all__ = ["TIMING", "MetricsFile"]

# Numbers that differ between two runs of one configuration on one machine.
TIMING = ("seconds", "tokens_per_second")


class MetricsFile:
    """The rows of metrics of a run; the file is created with the first row."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, object]) -> None:
        """Write one row; numbers that are not finite become null."""
        line = json.dumps(to_json(row), ensure_ascii=False, allow_nan=False)
        with naming(self.path), self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(line + "\n")

    def replace(self, lines: Sequence[str]) -> None:
        """Replace all rows with ``lines``; a file that does not exist is not created."""
        if self.path.exists():
            write_text_atomic(self.path, "".join(line + "\n" for line in lines))

    def sync(self) -> None:
        """Return when the rows are on disk."""
        if self.path.exists():
            sync(self.path)
