"""What a column holds, by its values: the registry ``COLUMN_KINDS``.

A text is what is none of the other kinds. The kinds are judged on the first rows of a file; missing
cells are left out of the judgement.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from univae.checkpoint import JsonValue

__all__ = [
    "COLUMN_KINDS",
    "NLI_SCORES",
    "NO_LABEL",
    "ColumnKind",
    "is_missing",
    "kind_of",
    "score_of",
]

NLI_SCORES = {"contradiction": 0.0, "neutral": 0.5, "entailment": 1.0}
NLI_CLASSES = {"contradiction": 2, "entailment": 3, "neutral": 4}  # as in univae.sentence.losses
NO_CLASS = -1
NO_LABEL = "-"  # in SNLI and MNLI: the annotators did not agree

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
DIGITS = re.compile(r"\d+")
HEXADECIMAL = re.compile(r"[0-9a-fA-F-]{8,}")

FEWEST_CODES = 10  # values from which on different short codes are no texts
FEWEST_REPEATED = 20  # values from which on repeated words are no texts
REPEATS = 20  # times that a repeated word occurs on average, at least
LONGEST_WORD = 40  # characters
PATTERNS = 2  # forms of codes, digits aside

Values = Sequence[JsonValue]


class ColumnKind(NamedTuple):
    """A kind of values."""

    words: str  # for messages: "column 1 holds WORDS"
    is_text: bool
    is_label: bool
    matches: Callable[[Values], bool]


def is_missing(cell: JsonValue) -> bool:
    """Return whether a cell is null or holds white space alone."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def score_of(cell: JsonValue) -> float | None:
    """Return a label as a number that rises with similarity; None for anything else.

    Labels are finite numbers, also with a decimal comma or as a percentage, and contradiction,
    neutral and entailment in any case.

    >>> [score_of(cell) for cell in ("4.5", "45%", "3,5", "ENTAILMENT", "1,000", True, "a")]
    [4.5, 0.45, 3.5, 1.0, None, None, None]
    """
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    if not isinstance(cell, str):
        return _finite(cell)
    text = cell.strip()
    if text.casefold() in NLI_SCORES:
        return NLI_SCORES[text.casefold()]
    divisor = 100 if text.endswith("%") else 1
    text = text.removesuffix("%").strip()
    if DECIMAL_COMMA.fullmatch(text) and not THOUSANDS.fullmatch(text):
        text = text.replace(",", ".")
    number = _finite(text)
    return None if number is None else number / divisor


def class_of(label: JsonValue) -> int:
    """Return the class of an NLI label in any case, -1 for any other label."""
    return NLI_CLASSES.get(str(label).strip().casefold(), NO_CLASS)


def kind_of(values: Values) -> ColumnKind:
    """Return the first of :data:`COLUMN_KINDS` that all values match which are not missing."""
    present = [value for value in values if not is_missing(value) and value != NO_LABEL]
    return next(kind for kind in COLUMN_KINDS.values() if kind.matches(present))


def _finite(value: str | float) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _are_whole_and_different(values: Values) -> bool:
    if len(values) < 2 or len(set(map(str, values))) < len(values):
        return False
    return all(DIGITS.fullmatch(str(value)) for value in values)


def _are_percentages(values: Values) -> bool:
    return _are_numbers(values) and all(str(value).endswith("%") for value in values)


def _are_numbers(values: Values) -> bool:
    return all(score_of(value) is not None and class_of(value) == NO_CLASS for value in values)


def _are_classes(values: Values) -> bool:
    return all(score_of(value) is not None for value in values)


def _are_words(values: Values) -> bool:
    """Return whether all values are ASCII strings without white space."""
    for value in values:
        is_word = isinstance(value, str) and value.isascii() and len(value) <= LONGEST_WORD
        if not is_word or len(str(value).split()) > 1:
            return False
    return True


def _are_codes(values: Values) -> bool:
    if len(values) < FEWEST_CODES or len(set(map(str, values))) < len(values):
        return False
    if not _are_words(values) or not all(DIGITS.search(str(value)) for value in values):
        return False
    if all(HEXADECIMAL.fullmatch(str(value)) for value in values):
        return True
    return len({DIGITS.sub("#", str(value)) for value in values}) <= PATTERNS


def _are_repeated_words(values: Values) -> bool:
    is_long = len(values) >= FEWEST_REPEATED
    return is_long and _are_words(values) and REPEATS * len(set(map(str, values))) <= len(values)


# The first kind that matches is that of a column.
COLUMN_KINDS: Mapping[str, ColumnKind] = {
    "nothing": ColumnKind("no value", False, False, lambda values: not values),
    "ids": ColumnKind(
        "whole numbers, all of them different", False, False, _are_whole_and_different
    ),
    "percentages": ColumnKind("percentages", False, True, _are_percentages),
    "numbers": ColumnKind("numbers", False, True, _are_numbers),
    "classes": ColumnKind("labels", False, True, _are_classes),
    "codes": ColumnKind("short codes, all of them different", False, False, _are_codes),
    "words": ColumnKind("a few words, repeated", False, False, _are_repeated_words),
    "texts": ColumnKind("texts", True, False, lambda values: True),
}
