"""Texts of files, folders and data sets: one a line or a cell, or a whole file unchanged.

Every command reads texts through this module. What a name stands for is decided by
:mod:`experiments.data.text_sources`. Lines are those of
:func:`univae.text.corpus.numbered_lines`: UTF-8, without a byte order mark, blank lines and
carriage returns, each of which is counted and noted.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

from experiments.data.remote import local_copy
from experiments.data.sources import resolved
from experiments.data.text_sources import BUILT_IN, is_lines, texts_of_source
from univae.errors import InputError
from univae.text.lines import COMPRESSED, Removed, is_short, require_length

__all__ = [
    "BUILT_IN",
    "Sources",
    "TextFiles",
    "Texts",
    "absolute_sources",
    "blocks",
    "exact_text",
    "listed",
    "read_texts",
    "require_rereadable",
    "size_of",
    "text_blocks",
    "texts_of",
]

# One source of texts, or several: files, folders, hub:NAME, or BUILT_IN.
Sources: TypeAlias = str | Path | Sequence[str] | Sequence[Path]


class Texts(NamedTuple):
    """Texts of a source, and notes on what was left out."""

    texts: list[str]
    notes: list[str]


class TextFiles(NamedTuple):
    """Sources of texts that are read one after the other, and more than once."""

    sources: Sources
    column: str = ""  # name or number of the column of texts, for files of columns
    refuse_long: bool = True  # False: texts too long for a tokenizer are left to a corpus

    @property
    def name(self) -> str:
        """The names of the sources, for records and messages."""
        return ", ".join(self.names)

    @property
    def names(self) -> list[str]:
        """The name of each source."""
        return listed(self.sources)

    def read(self, removed: Removed | None = None) -> Iterator[str]:
        """Yield the texts; ``removed`` counts what is left out."""
        return texts_of(
            self.sources, removed=removed, column=self.column, refuse_long=self.refuse_long
        )

    def require_rereadable(self, option: str) -> None:
        """Raise :class:`InputError` if a source cannot be read a second time."""
        for name in self.names:
            require_rereadable(option, Path(name))


def listed(data: Sources) -> list[str]:
    """Return sources as a list of names.

    >>> listed("a.txt"), listed(("a.txt", Path("b.txt"))), listed("")
    (['a.txt'], ['a.txt', 'b.txt'], [])
    """
    if isinstance(data, str | Path):
        return [str(data)] if str(data) else []
    return [str(source) for source in data]


def absolute_sources(data: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return sources with absolute paths, which name the same files from every folder."""
    if isinstance(data, str):
        return resolved(data, (BUILT_IN,))
    return tuple(resolved(source, (BUILT_IN,)) for source in data)


def require_rereadable(option: str, path: Path) -> None:
    """Raise :class:`InputError` for a pipe or a device, which cannot be read a second time."""
    if path.exists() and not path.is_dir() and not path.is_file():
        raise InputError(
            f"{option} {path} is not a file that can be read twice; write the texts to a file first"
        )


def size_of(data: Sources) -> int | None:
    """Return the bytes of the lines of all sources; None where they are not known."""
    paths = [Path(source) for source in listed(data)]
    if not all(path.is_file() and path.suffix.lower() not in COMPRESSED for path in paths):
        return None
    return sum(path.stat().st_size for path in paths)


def texts_of(
    data: Sources,
    limit: int = 0,
    removed: Removed | None = None,
    column: str = "",
    *,
    refuse_long: bool = True,
) -> Iterator[str]:
    """Yield the texts of one source or of several, one after the other.

    Args:
        data: names of files, folders or data sets: see
            :data:`experiments.data.text_sources.TEXT_SOURCES`.
        limit: the most texts to yield; 0: all.
        removed: counts blank lines and other parts of the files that are left out.
        column: name or number, from 1, of the column of texts, for files of columns; empty: the
            only column of texts.
        refuse_long: refuse texts of more than 4,194,304 characters; False: for a corpus, which
            leaves them out and counts them.

    Raises:
        InputError: while reading, for a file that is missing, empty, or not UTF-8, a column that is
            not there or holds no texts, or a text that is too long.
    """
    counts = removed if removed is not None else Removed()
    read = _bounded if refuse_long else texts_of_source
    texts: Iterable[str] = chain.from_iterable(
        read(source, column, counts) for source in listed(data)
    )
    return islice(texts, limit or None)


def _bounded(source: str, column: str, removed: Removed) -> Iterator[str]:
    """Yield the texts of a source; raise :class:`InputError` for one that is too long."""
    blank_lines = removed.blank_lines
    for number, text in enumerate(texts_of_source(source, column, removed), start=1):
        if not is_short(text):
            line = number + removed.blank_lines - blank_lines
            place = f"line {line}" if is_lines(source) else f"text {number}"
            require_length(text, f"{source}, {place}")
        yield text


def text_blocks(
    data: Sources, size: int, limit: int = 0, removed: Removed | None = None
) -> Iterator[list[str]]:
    """Return the texts of :func:`texts_of`, ``size`` at a time."""
    return blocks(texts_of(data, limit, removed), size)


def blocks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield texts, ``size`` at a time."""
    remaining = iter(texts)
    while block := list(islice(remaining, size)):
        yield block


def read_texts(data: Sources, limit: int = 0, column: str = "") -> Texts:
    """Return the texts that :func:`texts_of` yields, with notes on what was left out."""
    removed = Removed()
    texts = list(texts_of(data, limit, removed, column))
    return Texts(texts, removed.notes(", ".join(listed(data))))


def exact_text(data: str) -> str:
    r"""Return a file's whole text, every character of it, or the built-in corpus with ``\n`` ends.

    Raises:
        InputError: there is no such file, or it is not UTF-8.
    """
    if data == BUILT_IN:
        return "\n".join(texts_of(BUILT_IN)) + "\n"

    with local_copy(data) as path:
        return _decoded(path)


def _decoded(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path} is no file; give a UTF-8 file of texts, or {BUILT_IN}")
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is no UTF-8 text; convert the file"
        ) from error
