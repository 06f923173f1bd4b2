"""Readers of UTF-8 files with one text per line, plain or compressed."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from univae.errors import InputError

__all__ = [
    "COMPRESSED",
    "Removed",
    "all_lines",
    "inner_suffix",
    "is_short",
    "numbered_lines",
    "read_lines",
    "require_length",
]

LONGEST_LINE = 2**26  # bytes; bounds the memory for a file without line ends
LONGEST_TEXT = 2**22  # characters; a token of a text takes 40 bytes of memory, and more in a model

BYTE_ORDER_MARK = "\ufeff"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

# Suffix of a compressed file -> opens a path, or an open file, that is decompressed as it is read.
COMPRESSED: Mapping[str, Callable[[Any], BufferedIOBase]] = {
    ".gz": gzip.open,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, OSError)


@dataclass
class Removed:
    """Counts of what a reader removed from a file, and further notes on how it read it."""

    blank_lines: int = 0
    carriage_returns: int = 0  # at the end of a line
    byte_order_mark: bool = False
    empty_cells: int = 0  # rows without a text or label in a column that is read
    line_ends: int = 0  # inside a cell, each of which is read as a space
    other_files: int = 0  # of a folder, without a name of a text file
    empty_files: int = 0  # of a folder
    remarks: list[str] = field(default_factory=list)  # notes that name their file themselves

    def notes(self, source: str) -> list[str]:
        """Return one line that lists what was removed from ``source``, if anything; the remarks."""
        removed = []
        if self.blank_lines:
            removed.append(_count(self.blank_lines, "blank line"))
        if self.empty_cells:
            removed.append(f"{_count(self.empty_cells, 'row')} with an empty cell")
        if self.other_files:
            removed.append(_count(self.other_files, "other file"))
        if self.empty_files:
            removed.append(_count(self.empty_files, "empty file"))
        if self.carriage_returns:
            lines = _count(self.carriage_returns, "line")
            removed.append(f"the carriage return at the end of {lines}")
        if self.byte_order_mark:
            removed.append("a byte order mark")
        notes = [f"{source}: left out {', '.join(removed)}"] if removed else []
        if self.line_ends:
            ends = _count(self.line_ends, "line end")
            notes.append(f"{source}: {ends} inside texts read as a space")
        return [*notes, *self.remarks]


def read_lines(
    path: Path, removed: Removed | None = None, file: BufferedIOBase | None = None
) -> Iterator[str]:
    """Yield one text per line, as :func:`numbered_lines` does, without the numbers."""
    for _, text in numbered_lines(path, removed, file):
        yield text


def numbered_lines(
    path: Path, removed: Removed | None = None, file: BufferedIOBase | None = None
) -> Iterator[tuple[int, str]]:
    r"""Yield the number of each line, from 1 with blank lines counted, and its text.

    Lines end at ``\n`` alone; one ``\r`` before it, a byte order mark and blank lines are skipped
    and counted in ``removed``. Files whose names end in .gz, .bz2 or .xz are decompressed.
    ``file`` is read instead of the one at ``path``, which then is its name.

    Raises:
        InputError: while reading: a missing file, a folder, no line with a text, a line of more
            than 64 MiB, a damaged archive, or bytes that are not UTF-8; the message names line and
            byte.
    """
    removed = removed or Removed()
    texts = 0
    number = 0
    for number, text in enumerate(all_lines(path, removed, file), start=1):
        if text.strip():
            texts += 1
            yield number, text
        else:
            removed.blank_lines += 1
    if not texts:
        problem = "has no line with a text" if number else "is empty"
        raise InputError(f"{path} {problem}; give a UTF-8 file with one text per line")


def all_lines(path: Path, removed: Removed, file: BufferedIOBase | None = None) -> Iterator[str]:
    """Yield every line of a file, also blank ones, without its end.

    ``file`` is read instead of the one at ``path``, which then is its name.

    Raises:
        InputError: as :func:`numbered_lines`, but not for a file without texts.
    """
    if file is None:
        _require_file(path)
    offset = 0
    with _opened(path, file) as content:
        for number, line in enumerate(_byte_lines(content, path), start=1):
            location = f"{path}, line {number}"
            if not offset:
                _refuse_utf16(line, path)
            yield _decode(line, location, offset, removed)
            offset += len(line)


def inner_suffix(path: Path) -> str:
    """Return the suffix of a file's name in lower case, without one that says it is compressed.

    >>> inner_suffix(Path("a.CSV")), inner_suffix(Path("a.csv.gz")), inner_suffix(Path("a"))
    ('.csv', '.csv', '')
    """
    is_compressed = path.suffix.lower() in COMPRESSED
    return (path.with_suffix("") if is_compressed else path).suffix.lower()


def is_short(text: str) -> bool:
    """Return whether a text has 4,194,304 characters or fewer, for a tokenizer's memory."""
    return len(text) <= LONGEST_TEXT


def require_length(text: str, source: str) -> None:
    """Raise :class:`InputError` for a text too long for a tokenizer's memory; no line is shown."""
    if not is_short(text):
        raise InputError(
            f"{source}: a text may have at most {LONGEST_TEXT:,} characters; one has "
            f"{len(text):,}; write it as several lines"
        )


def _opened(path: Path, file: BufferedIOBase | None) -> BufferedIOBase:
    """Open a file for reading, decompressed where its suffix says that it is compressed."""
    opener = COMPRESSED.get(path.suffix.lower())
    try:
        if opener is None:
            return file or path.open("rb")
        return opener(file or path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a file that you may read"
        ) from error


def _byte_lines(file: BufferedIOBase, path: Path) -> Iterator[bytes]:
    """Yield the lines of an open file with their ends, none longer than LONGEST_LINE."""
    while True:
        try:
            line = file.readline(LONGEST_LINE)
        except DAMAGED as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"{path}: cannot be read ({reason}); the file is damaged, or no {path.suffix} file"
            ) from error
        if not line:
            return
        yield line


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a UTF-8 file with one text per line")
    if not path.exists():
        raise InputError(f"{path}: no such file; give a UTF-8 file with one text per line")


def _refuse_utf16(line: bytes, path: Path) -> None:
    if line.startswith(UTF16_MARKS):
        raise InputError(
            f"{path}: UTF-16, by its first two bytes; convert the file: "
            f"iconv -f UTF-16 -t UTF-8 {path.name}"
        )


def _decode(line: bytes, location: str, offset: int, removed: Removed) -> str:
    """Return the text of a line that begins at byte ``offset`` of its file, without its end."""
    if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
        raise InputError(
            f"{location}: a line may have at most {LONGEST_LINE} bytes; this one is longer; "
            "give one text per line"
        )
    if b"\0" in line:
        position = offset + line.index(0)
        raise InputError(
            f"{location}, byte {position}: a NUL byte, so this is no text; convert the file, "
            "if it is UTF-16: iconv -f UTF-16LE -t UTF-8"
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        position = offset + error.start
        raise InputError(
            f"{location}, byte {position}: not UTF-8 ({error.reason}); convert the file, "
            "if it is Latin-1: iconv -f LATIN1 -t UTF-8"
        ) from error

    if not offset and text.startswith(BYTE_ORDER_MARK):
        removed.byte_order_mark = True
        text = text.removeprefix(BYTE_ORDER_MARK)
    text = text.removesuffix("\n")
    if text.endswith("\r") and text.strip():
        removed.carriage_returns += 1
    return text.removesuffix("\r")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
