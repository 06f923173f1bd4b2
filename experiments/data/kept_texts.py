"""Texts that are read again, kept in a temporary file and not in memory."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TextIO

from univae.checkpoint import JsonObject

__all__ = ["KeptTexts"]


class KeptTexts:
    """Any number of texts in the order in which they came, also those of a pipe."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._count = 0

    @classmethod
    @contextmanager
    def open(cls) -> "Iterator[KeptTexts]":
        """Yield texts whose file is deleted when the block ends."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            yield cls(file)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        """Yield all texts."""
        self._file.seek(0)
        yield from map(json.loads, self._file)

    def first(self, count: int) -> list[str]:
        """Return the first texts, at most ``count``."""
        return list(islice(self, count))

    def keeping(self, rows: Iterable[JsonObject], name: str) -> Iterator[JsonObject]:
        """Yield records unchanged, and keep the text ``name`` of each."""
        for row in rows:
            self._file.write(f"{json.dumps(row[name])}\n")
            self._count += 1
            yield row
