"""Readers of UTF-8 files with one text per line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from univae.errors import InputError

__all__ = ["Removed", "numbered_lines", "read_lines"]

LONGEST_LINE = 2**26  # bytes; bounds the memory for a file without line ends

BYTE_ORDER_MARK = "\ufeff"


@dataclass
class Removed:
    """Counts of what :func:`read_lines` removed from a file."""

    blank_lines: int = 0
    carriage_returns: int = 0  # at the end of a line
    byte_order_mark: bool = False

    def notes(self, source: str) -> list[str]:
        """Return one line that lists what was removed from ``source``, or none."""
        removed = []
        if self.blank_lines:
            removed.append(_count(self.blank_lines, "blank line"))
        if self.carriage_returns:
            lines = _count(self.carriage_returns, "line")
            removed.append(f"the carriage return at the end of {lines}")
        if self.byte_order_mark:
            removed.append("a byte order mark")
        return [f"{source}: left out {', '.join(removed)}"] if removed else []


def read_lines(path: Path, removed: Removed | None = None) -> Iterator[str]:
    """Yield one text per line, as :func:`numbered_lines` does, without the numbers."""
    for _, text in numbered_lines(path, removed):
        yield text


def numbered_lines(path: Path, removed: Removed | None = None) -> Iterator[tuple[int, str]]:
    r"""Yield the number of each line, from 1 with blank lines counted, and its text.

    Lines end at ``\n`` alone; one ``\r`` before it, a byte order mark and blank lines are skipped
    and counted in ``removed``.

    Raises:
        InputError: while reading: a missing file, a folder, no line with a text, a line of more
            than 64 MiB, or bytes that are not UTF-8; the message names line and byte.
    """
    removed = removed or Removed()
    _require_file(path)
    offset = 0
    texts = 0
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            text = _decode(line, f"{path}, line {number}", offset, removed)
            offset += len(line)
            if text.strip():
                texts += 1
                yield number, text
            else:
                removed.blank_lines += 1
    if not texts:
        problem = "has no line with a text" if offset else "is empty"
        raise InputError(f"{path} {problem}; give a UTF-8 file with one text per line")


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a UTF-8 file with one text per line")
    if not path.exists():
        raise InputError(f"{path}: no such file; give a UTF-8 file with one text per line")


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
            f"{location}, byte {position}: a NUL byte, so this is no text; convert the file"
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        position = offset + error.start
        raise InputError(
            f"{location}, byte {position}: not UTF-8 ({error.reason}); convert the file"
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
