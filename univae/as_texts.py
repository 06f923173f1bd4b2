"""Texts as people have them in memory: a list, an array, a pandas Series or DataFrame."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from univae.errors import InputError

__all__ = ["Texts", "as_texts", "index_of"]

# A text, an iterable of texts, an array of texts, or a pandas Series or DataFrame of them.
Texts: TypeAlias = Any
Index: TypeAlias = Any  # of pandas, which is optional

SHOWN = 60  # characters of a wrong value in a message


def as_texts(data: Texts, who: str) -> list[str]:
    """Return texts as a list; a text alone is a list of one.

    Of a DataFrame its only column is taken, or the only one whose first value that is not missing
    is a text. pandas itself is not needed: its objects are known by their attributes.

    Args:
        data: the texts.
        who: what takes them, for messages.

    Raises:
        InputError: an entry is no text, the DataFrame has several columns of texts, or the array
            has several axes.
    """
    if isinstance(data, str):
        return [data]
    if hasattr(data, "columns"):
        data = _text_column(data, who)
    if getattr(data, "ndim", 1) != 1:
        raise InputError(
            f"{who}: texts must be a list, or an array of one axis; got shape {tuple(data.shape)}"
        )
    if isinstance(data, bytes | Mapping) or not isinstance(data, Iterable):
        raise InputError(
            f"{who}: give a text or a list of texts; got {type(data).__name__} {_shown(data)}"
        )
    texts = list(data)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"{who}: every entry must be a text; row {row} (from 0) is "
                f"{type(text).__name__} {_shown(text)}; leave it out, or convert it with str()"
            )
    return [str(text) for text in texts]  # NumPy's strings are of a class of their own


def index_of(data: object) -> Index:
    """Return the index of a pandas Series or DataFrame; None for anything else."""
    if hasattr(data, "iloc"):
        return getattr(data, "index", None)
    return None


def _text_column(frame: Texts, who: str) -> Texts:
    """Return the only column of a DataFrame, or the only one whose first value is a text.

    Missing values do not count.
    """
    names = list(frame.columns)
    if len(names) > 1:
        names = [name for name in names if _holds_texts(frame[name])]
    if len(names) != 1:
        columns = ", ".join(map(str, frame.columns))
        raise InputError(
            f"{who}: a DataFrame must have one column of texts; got {len(names)} of its columns "
            f"{columns}; give one column, frame['NAME']"
        )
    return frame[names[0]]


def _holds_texts(column: Texts) -> bool:
    return any(isinstance(value, str) for value in column.dropna().head(1))


def _shown(value: object) -> str:
    return repr(value)[:SHOWN]
