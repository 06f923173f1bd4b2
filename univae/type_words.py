"""Check values against annotations, with the expected type in words."""

import os
from collections.abc import Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

__all__ = ["type_words", "value_text"]

# A run folder stores its options as JSON, which is UTF-8.
NOT_UTF8 = "in UTF-8 (rename the file, or set PYTHONUTF8=1 where its name is)"
LONGEST_VALUE = 80  # characters of a value in a message

# Annotation -> the type of its values, and the words for it.
PLAIN_TYPES: dict[object, tuple[type, str]] = {
    NoneType: (NoneType, "nothing"),
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
}


def type_words(hint: object, value: object) -> str:
    """Return what ``value`` must be, in words, or an empty string if it has the type ``hint``.

    Other types than those of JSON and paths are not checked.
    """
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin is Literal:
        return "" if value in arguments else _alternatives(arguments)
    if origin in (Union, UnionType):
        return _union_words(arguments, value)
    if origin is dict:
        return _object_words(arguments[1], value)
    if origin is tuple:
        return _list_words(arguments, value)
    return _plain_words(hint, value)


def _union_words(hints: tuple[object, ...], value: object) -> str:
    """Return the words of the first type that is not None, or an empty string."""
    mismatches = {hint: type_words(hint, value) for hint in hints}
    if not all(mismatches.values()):
        return ""
    return next(words for hint, words in mismatches.items() if hint is not NoneType)


def _object_words(hint: object, value: object) -> str:
    if not isinstance(value, dict):
        return "an object"
    for entry in value.values():
        words = type_words(hint, entry)
        if words:
            return f"an object of {words} each"
    return ""


def _list_words(hints: tuple[object, ...], value: object) -> str:
    if not isinstance(value, list | tuple):
        return "a list"
    if len(hints) != len(value) or Ellipsis in hints:
        hints = hints[:1] * len(value)
    for hint, entry in zip(hints, value, strict=True):
        words = type_words(hint, entry)
        if words:
            return f"a list of {words} each"
    return ""


def _plain_words(hint: object, value: object) -> str:
    # In Python 3.10 list[int] is an instance of type, too.
    is_generic = get_origin(hint) is not None
    if isinstance(hint, type) and not is_generic and issubclass(hint, os.PathLike):
        is_path = isinstance(value, str | os.PathLike)
        return NOT_UTF8 if is_path and not _is_utf8(str(value)) else "" if is_path else "a path"
    kind, words = PLAIN_TYPES.get(hint, (object, ""))
    if hint in (int, float) and isinstance(value, bool):
        return words
    if hint is str and isinstance(value, str) and not _is_utf8(value):
        return NOT_UTF8
    return "" if isinstance(value, kind) else words


def _is_utf8(text: str) -> bool:
    """Return whether a text has no lone surrogate, which stands for a byte of a file's name."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _alternatives(names: Sequence[object]) -> str:
    *first, last = map(str, names)
    return f"{', '.join(first)} or {last}" if first else last


def value_text(value: object) -> str:
    """Return a value as a message prints it: text in quotes unless a name, shortened if long."""
    text = str(value) if not isinstance(value, str) or value.isidentifier() else repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
