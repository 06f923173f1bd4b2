"""Answers to the texts of standard input, each as soon as its line is read.

A program that asks more than once starts the command once, writes a line and reads a line, also
where the line is blank or cannot be read: the model and the corpus stay in memory.
"""

import io
import sys
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from experiments.data.growing_files import json_line
from experiments.data.standard_streams import STREAM
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.lines import Removed, all_lines, require_length

__all__ = ["Counts", "TextTable", "answer_lines", "is_stream", "require_no_file"]

LONGEST_LINE = 2**26  # bytes that are read at once


class TextTable:
    """Texts by their number, in memory as UTF-8: eight bytes a text beside those of its file."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._content = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self._content += text.encode()
            self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise IndexError(f"TextTable: row must lie in 0..{len(self) - 1}; got {row}")
        return self._content[self._ends[row] : self._ends[row + 1]].decode()


def is_stream(source: Path | None) -> bool:
    """Return whether texts to answer come from standard input, and the answers go to its output."""
    return str(source) == STREAM


def require_no_file(option: str, source: Path | None, out: Path | None) -> None:
    """Raise :class:`InputError` where texts of standard input have an output file."""
    if is_stream(source) and out is not None:
        raise InputError(
            f"{option} {STREAM} answers on standard output; leave out --out {out}, or redirect "
            "standard output into it"
        )


class Counts(NamedTuple):
    """How many lines were answered, and how many refused."""

    answered: int
    refused: int


def answer_lines(name: str, answer: Callable[[str], JsonObject], removed: Removed) -> Counts:
    """Write a line of JSON for each line of standard input, before the next one is read.

    It is the answer; ``{name: "", "results": []}`` for a blank line; and for one that cannot be
    read or answered ``{"line": number from 1, "error": reason}``. What is left out is counted in
    ``removed``.
    """
    answered = 0
    refused = 0
    for number, line in enumerate(iter(_read_line, b""), start=1):
        try:
            text = _text(line, number, removed)
            is_blank = not text.strip()
            record = {name: "", "results": []} if is_blank else answer(text)
        except InputError as error:
            record = {"line": number, "error": str(error)}
            refused += 1
        else:
            answered += not is_blank
            removed.blank_lines += is_blank
        sys.stdout.buffer.write(json_line(record).encode())
        sys.stdout.buffer.flush()
    return Counts(answered, refused)


def _read_line() -> bytes:
    return sys.stdin.buffer.readline(LONGEST_LINE)


def _text(line: bytes, number: int, removed: Removed) -> str:
    """Return the text of a line.

    Raises:
        InputError: it is no text, or too long.
    """
    source = f"standard input, line {number}"
    (text,) = all_lines(Path(source), removed, io.BytesIO(line))
    require_length(text, source)
    return text
