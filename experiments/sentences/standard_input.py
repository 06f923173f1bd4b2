"""Answers to the texts of standard input, each as soon as its line is read.

A program that asks more than once starts the command once, writes a line and reads a line:
the model and the corpus stay in memory.
"""

import sys
from array import array
from collections.abc import Callable, Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from experiments.data.growing_files import json_line
from experiments.data.standard_streams import STREAM
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.lines import Removed, numbered_lines, require_length

__all__ = ["TextTable", "answer_lines", "is_stream", "require_no_file"]

NAME = Path("standard input")  # in messages


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


def answer_lines(answer: Callable[[str], JsonObject], removed: Removed) -> int:
    """Write the answer to each line of standard input as a line of JSON; return their number.

    An answer is written before the next line is read. Lines are those of
    :func:`univae.text.lines.numbered_lines`; what is left out is counted in ``removed``.

    Raises:
        InputError: a line cannot be read, or there is none with a text.
    """
    count = 0
    stdin = cast(BufferedIOBase, sys.stdin.buffer)
    for number, text in numbered_lines(NAME, removed, stdin):
        require_length(text, f"{NAME}, line {number}")
        sys.stdout.buffer.write(json_line(answer(text)).encode())
        sys.stdout.buffer.flush()
        count += 1
    return count
