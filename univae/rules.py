"""Rules of single fields: what each value of a configuration may be, in words, and one check of them all.

A dataclass declares ``RULES``, a mapping of its fields' names to rules, and calls :func:`check` in
``__post_init__``. The rules of base classes hold too, unless a subclass has another for the field.
A value must first have the type that its annotation says, so that a configuration read from a
damaged file is refused as one given by hand. NaN keeps no rule, and every number has an upper
bound: one that a computation reaches, not the memory's end.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from univae.errors import InputError

__all__ = [
    "COUNT",
    "DATUM",
    "SIZE",
    "Rule",
    "above",
    "at_least",
    "broken",
    "check",
    "check_values",
    "each",
]
__all__ += ["reading", "rules_of", "within"]

COUNT = 10**12  # the most of what is counted one after the other: steps, rows
SIZE = 16_384  # the widest layer
DATUM = 2**24  # the most numbers in an image or a row of a table

# Returns the words of what the value must be, or nothing where the rule holds.
Rule: TypeAlias = Callable[[Any], str]


def at_least(least: int | float, most: int | float = COUNT, words: str = "") -> Rule:
    """Return the rule ``least <= value <= most``; ``words`` say the lower bound.

    >>> rule = at_least(0, 9, "0 (all) or more")
    >>> rule(-1), rule(9), rule(10), rule(float("nan"))
    ('0 (all) or more', '', 'at most 9', '0 (all) or more')
    """

    def rule(value: Any) -> str:
        if not value >= least:
            return words or f"at least {_number(least)}"
        return "" if value <= most else f"at most {_number(most)}"

    return rule


def above(least: int | float, most: int | float, words: str = "") -> Rule:
    """Return the rule ``least < value <= most``."""

    def rule(value: Any) -> str:
        if not value > least:
            return words or f"above {_number(least)}"
        return "" if value <= most else f"at most {_number(most)}"

    return rule


def within(interval: str, words: str = "") -> Rule:
    """Return the rule that a value lies in an interval such as ``[0, 1)``; ``words`` follow it in a message.

    >>> rule = within("(0, 1]", "a share")
    >>> rule(0), rule(1)
    ('in (0, 1], a share', '')
    """
    least, most = (float(bound) for bound in interval[1:-1].split(","))
    sentence = f"in {interval}{', ' if words else ''}{words}"

    def rule(value: Any) -> str:
        lower = value >= least if interval[0] == "[" else value > least
        upper = value <= most if interval[-1] == "]" else value < most
        return "" if lower and upper else sentence

    return rule


def each(rule: Rule, least: int = 1, most: int = 64) -> Rule:
    """Return the rule of a sequence of ``least`` to ``most`` values that keep ``rule``."""

    def sequence_rule(values: Sequence[Any]) -> str:
        if not least <= len(values) <= most:
            return f"{least} to {most} numbers"
        return next((f"{words} each" for words in map(rule, values) if words), "")

    return sequence_rule


def rules_of(kind: type) -> dict[str, Rule]:
    """Return the rules of a dataclass by field, those of its bases included."""
    rules: dict[str, Rule] = {}
    for base in reversed(kind.__mro__):
        rules |= base.__dict__.get("RULES", {})
    return rules


def broken(kind: type, name: str, value: Any) -> str:
    """Return what the field ``name`` of a dataclass must be and ``value`` is not, or nothing."""
    words = _type_words(_hints(kind)[name], value)
    if words:
        return f"{words}; got {name}={_shown(value)}"
    rule = rules_of(kind).get(name)
    words = rule(value) if rule is not None and value is not None else ""
    return f"{words}; got {name}={_shown(value)}" if words else ""


def check(config: Any) -> None:
    """Raise :class:`InputError` for the first field of a dataclass instance that breaks its type or its rule."""
    for field in fields(config):
        words = broken(type(config), field.name, getattr(config, field.name))
        if words:
            raise InputError(f"{field.name} must be {words}")


def check_values(who: str, rules: Mapping[str, Rule], values: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for the first value by name that breaks its rule.

    One of another type breaks it.
    """
    for name, rule in rules.items():
        if name not in values:
            continue
        try:
            words = rule(values[name])
        except TypeError:
            words = "numbers, or a number"
        if words:
            raise InputError(f"{who}: {name} must be {words}; got {name}={_shown(values[name])}")


@contextmanager
def reading(file: str | os.PathLike[str]) -> Iterator[None]:
    """Refuse what the block makes of the values in ``file``, in one line, where they are not those that were written.

    Raises:
        InputError: the block failed, because a value is missing, or is of another type or out of
            its range.
    """
    try:
        yield
    except InputError as error:
        raise InputError(
            f"{os.fspath(file)}: {error}; the run folder is damaged, or of another version"
        ) from error
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        message = f"{os.fspath(file)}: values that cannot be read ({reason})"
        raise InputError(f"{message}; the run folder is damaged, or of another version") from error


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _type_words(hint: Any, value: Any) -> str:
    """Return what a value of another type than ``hint`` must be, or nothing.

    Classes not named here are not judged.
    """
    origin = get_origin(hint)
    parts = get_args(hint)
    if origin is Literal:
        return "" if value in parts else _alternatives(parts)
    if origin in (Union, UnionType):
        wrong = [_type_words(part, value) for part in parts]
        return "" if "" in wrong else next(words for words in wrong if words != "nothing")
    if origin is dict:
        if not isinstance(value, dict):
            return "an object"
        wrong = [_type_words(parts[1], entry) for entry in value.values()]
        return next((f"an object of {words} each" for words in wrong if words), "")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return "a list"
        kinds = (
            parts if len(parts) == len(value) and Ellipsis not in parts else parts[:1] * len(value)
        )
        return next(
            (f"a list of {words} each" for words in map(_type_words, kinds, value) if words), ""
        )
    return _plain_words(hint, value)


def _plain_words(hint: Any, value: Any) -> str:
    kinds: dict[Any, tuple[Any, str]] = {
        NoneType: (NoneType, "nothing"),
        bool: (bool, "true or false"),
        int: (Integral, "a whole number"),
        float: (Real, "a number"),
        str: (str, "text"),
    }
    if isinstance(hint, type) and issubclass(hint, os.PathLike):
        return "" if isinstance(value, str | os.PathLike) else "a path"
    kind, words = kinds.get(hint, (object, ""))
    if hint in (int, float) and isinstance(value, bool):
        return words
    return "" if isinstance(value, kind) else words


def _alternatives(names: Sequence[Any]) -> str:
    *some, last = map(str, names)
    return f"{', '.join(some)} or {last}" if some else last


def _number(value: int | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
    text = str(value) if not isinstance(value, str) or value.isidentifier() else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
