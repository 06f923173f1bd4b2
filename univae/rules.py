"""Rules for the fields of configurations: the allowed values, in words, and one check of them.

A dataclass declares ``RULES``, a mapping from the names of its fields to rules, and calls
:func:`check` in ``__post_init__``. It inherits the rules of its base classes and can override them.
A value must first have the type of its annotation, so that a configuration from a damaged file
raises the same errors as one from the command line. NaN satisfies no rule, and every number has an
upper bound that a computation can reach.
"""

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from univae.errors import InputError
from univae.type_words import type_words, value_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "COUNT",
    "DATUM",
    "OTHER_VERSION",
    "SIZE",
    "Rule",
    "above",
    "at_least",
    "broken",
    "check",
    "check_values",
    "each",
    "reading",
    "rules_of",
    "within",
]

COUNT = 10**12  # largest number of steps or rows
SIZE = 16_384  # widest layer
DATUM = 2**24  # most numbers in one image or one row of a table

# How a bound compares with a value, by the bracket of an interval.
LOWER_BOUND: dict[str, Callable[[float, float], bool]] = {"[": operator.le, "(": operator.lt}
UPPER_BOUND: dict[str, Callable[[float, float], bool]] = {"]": operator.ge, ")": operator.gt}

LONGEST_REASON = 200  # characters of another exception's text in a message
OTHER_VERSION = "the run folder is damaged, or of another version"

# The value of a field, which comes from JSON or the command line.
Value: TypeAlias = Any

# Return what a value must be, in words, or an empty string if it satisfies the rule.
Rule: TypeAlias = Callable[[Any], str]


def at_least(least: int | float, most: int | float = COUNT, words: str = "") -> Rule:
    """Return the rule ``least <= value <= most``; ``words`` describe the lower bound.

    >>> rule = at_least(0, 9, "0 (all) or more")
    >>> rule(-1), rule(9), rule(10), rule(float("nan"))
    ('0 (all) or more', '', 'at most 9', '0 (all) or more')
    """

    def rule(value: Value) -> str:
        if not value >= least:
            return words or f"at least {_number(least)}"
        return "" if value <= most else f"at most {_number(most)}"

    return rule


def above(least: int | float, most: int | float, words: str = "") -> Rule:
    """Return the rule ``least < value <= most``."""

    def rule(value: Value) -> str:
        if not value > least:
            return words or f"above {_number(least)}"
        return "" if value <= most else f"at most {_number(most)}"

    return rule


def within(interval: str, words: str = "") -> Rule:
    """Return the rule that a value lies in an interval such as ``[0, 1)``.

    ``words`` follow the interval in a message.

    >>> rule = within("(0, 1]", "a share")
    >>> rule(0), rule(1)
    ('in (0, 1], a share', '')
    """
    least, most = (float(bound) for bound in interval[1:-1].split(","))
    is_above = LOWER_BOUND[interval[0]]
    is_below = UPPER_BOUND[interval[-1]]
    sentence = f"in {interval}{', ' if words else ''}{words}"

    def rule(value: Value) -> str:
        return "" if is_above(least, value) and is_below(most, value) else sentence

    return rule


def each(rule: Rule, least: int = 1, most: int = 64) -> Rule:
    """Return the rule of a sequence of ``least`` to ``most`` values that satisfy ``rule``."""

    def sequence_rule(values: Sequence[Value]) -> str:
        if not least <= len(values) <= most:
            return f"{least} to {most} numbers"
        for value in values:
            words = rule(value)
            if words:
                return f"{words} each"
        return ""

    return sequence_rule


def rules_of(kind: type) -> dict[str, Rule]:
    """Return the rules of a dataclass by field, those of its bases included."""
    rules: dict[str, Rule] = {}
    for base in reversed(kind.__mro__):
        rules |= base.__dict__.get("RULES", {})
    return rules


def broken(kind: type, name: str, value: object) -> str:
    """Return the rule that ``value`` breaks as the field ``name`` of a dataclass, or nothing."""
    words = type_words(_hints(kind)[name], value)
    rule = rules_of(kind).get(name)
    if not words and rule is not None and value is not None:
        words = rule(value)
    return f"{words}; got {name}={value_text(value)}" if words else ""


def check(config: "DataclassInstance") -> None:
    """Check the type and the rule of every field of a dataclass instance.

    Raises:
        InputError: the first field whose value breaks its type or its rule.
    """
    for field in fields(config):
        words = broken(type(config), field.name, getattr(config, field.name))
        if words:
            raise InputError(f"{field.name} must be {words}")


def check_values(who: str, rules: Mapping[str, Rule], values: Mapping[str, object]) -> None:
    """Check the values that have a rule.

    Raises:
        InputError: the first value that breaks its rule or has another type; ``who`` starts the
            message.
    """
    for name, rule in rules.items():
        if name not in values:
            continue
        try:
            words = rule(values[name])
        except TypeError:
            words = "numbers, or a number"
        if words:
            value = value_text(values[name])
            raise InputError(f"{who}: {name} must be {words}; got {name}={value}")


@contextmanager
def reading(file: str | os.PathLike[str], way_out: str = OTHER_VERSION) -> Iterator[None]:
    """Convert exceptions of a block that builds objects from the values in ``file``.

    ``way_out`` ends the message, which an :class:`InputError` of the block that has it keeps.

    Raises:
        InputError: a value in the file is missing, or is of another type or out of its range.
    """
    try:
        yield
    except InputError as error:
        if way_out in str(error):  # names a file of the folder already
            raise
        raise InputError(f"{os.fspath(file)}: {error}; {way_out}") from error
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:LONGEST_REASON]
        message = f"{os.fspath(file)}: values that cannot be read ({reason})"
        raise InputError(f"{message}; {way_out}") from error


@cache
def _hints(kind: type) -> Mapping[str, object]:
    return get_type_hints(kind)


def _number(value: int | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
