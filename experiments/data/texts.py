"""Texts of a file, one a line, or of a built-in corpus."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from univae.errors import InputError
from univae.text.corpus import Removed, read_lines

__all__ = ["BUILT_IN", "require_rereadable", "texts_of"]


BUILT_IN = "python-docs"


def require_rereadable(option: str, path: Path) -> None:
    """Raise InputError for a pipe or a device, which a second reading would find empty."""
    if path.exists() and not path.is_dir() and not path.is_file():
        rule = "is not a file that can be read twice"
        raise InputError(f"{option} {path} {rule}; write the texts to a file first")


def texts_of(data: str, limit: int = 0, removed: Removed | None = None) -> Iterator[str]:
    """The texts of a file, one a line, or of the built-in corpus; at most ``limit`` of them, if it is not 0.

    ``removed`` counts blank lines and what else is left out of the lines read.
    """
    texts: Iterable[str]
    if data == BUILT_IN:
        from experiments.data.python_docs import sentences

        texts = sentences()
    else:
        texts = read_lines(Path(data), removed)
    return islice(texts, limit or None)
