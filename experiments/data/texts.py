"""Texts of a file or of a built-in corpus: one a line, or the whole file unchanged.

Every command reads texts through this module. Lines are those of
:func:`univae.text.corpus.numbered_lines`: UTF-8, without a byte order mark, blank lines and
carriage returns, each of which is counted and noted.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from univae.errors import InputError
from univae.text.corpus import Removed, read_lines

__all__ = ["BUILT_IN", "Texts", "exact_text", "read_texts", "require_rereadable", "texts_of"]


BUILT_IN = "python-docs"  # the corpus that needs no file


class Texts(NamedTuple):
    """Texts of a file, and notes on the lines that were left out."""

    texts: list[str]
    notes: list[str]


def require_rereadable(option: str, path: Path) -> None:
    """Raise :class:`InputError` for a pipe or a device, which cannot be read a second time."""
    if path.exists() and not path.is_dir() and not path.is_file():
        raise InputError(
            f"{option} {path} is not a file that can be read twice; write the texts to a file first"
        )


def texts_of(data: str, limit: int = 0, removed: Removed | None = None) -> Iterator[str]:
    """Yield the texts of a file, one a line, or of the built-in corpus.

    Args:
        data: the name of the file, or :data:`BUILT_IN`.
        limit: the most texts to yield; 0: all.
        removed: counts blank lines and other parts of the file that are left out.

    Raises:
        InputError: while reading, for a file that is missing, empty, or not UTF-8.
    """
    lines: Iterable[str] = _corpus() if data == BUILT_IN else read_lines(Path(data), removed)
    return islice(lines, limit or None)


def read_texts(data: str, limit: int = 0) -> Texts:
    """Return the texts that :func:`texts_of` yields, with notes on the lines left out."""
    removed = Removed()
    texts = list(texts_of(data, limit, removed))
    return Texts(texts, removed.notes(data))


def exact_text(data: str) -> str:
    r"""Return a file's whole text, every character of it, or the built-in corpus with ``\n`` ends.

    Raises:
        InputError: there is no such file, or it is empty or not UTF-8.
    """
    if data == BUILT_IN:
        return "\n".join(_corpus()) + "\n"

    path = Path(data)
    if not path.is_file():
        raise InputError(f"{path} is no file; give a UTF-8 file of texts, or {BUILT_IN}")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is no UTF-8 text; convert the file"
        ) from error
    if not text:
        raise InputError(f"{path} is empty; give a file with texts")
    return text


def _corpus() -> list[str]:
    from experiments.data.python_docs import sentences

    return sentences()
