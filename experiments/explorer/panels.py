"""Panels of the explorer: fields that a user fills in, and the function that answers them.

A panel knows nothing of the library that shows it (:mod:`experiments.explorer.page`), so that tests
call it directly. Its answer is HTML in which every value is escaped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from experiments.reports.html import paragraph
from univae.errors import InputError
from univae.rules import Rule
from univae.type_words import value_text

__all__ = [
    "ChoiceField",
    "ChoicesField",
    "Field",
    "NumberField",
    "Panel",
    "SliderField",
    "TextField",
]

LONGEST_TEXT = 20_000  # characters of a text field: bounds the time of an answer


@runtime_checkable
class Field(Protocol):
    """A value that a user gives."""

    @property
    def label(self) -> str:
        """The name of the value, in words."""
        ...

    @property
    def value(self) -> Any:
        """The value at the start."""
        ...

    def read(self, value: Any) -> Any:
        """Return the value of a widget as a function takes it.

        Raises:
            InputError: it breaks the rule of the field.
        """


@dataclass(frozen=True)
class TextField:
    """A text, which may not be empty unless it is optional."""

    label: str
    value: str = ""
    lines: int = 1
    hint: str = ""
    optional: bool = False

    def read(self, value: Any) -> str:
        """Return the text without blanks around it."""
        text = str(value or "").strip()
        if not text and not self.optional:
            raise InputError(f"{self.label} is empty; type a text")
        if len(text) > LONGEST_TEXT:
            raise InputError(
                f"{self.label} must have at most {LONGEST_TEXT} characters; got {len(text)}"
            )
        return text


@dataclass(frozen=True)
class NumberField:
    """A whole number that keeps a rule."""

    label: str
    value: int
    rule: Rule
    hint: str = ""

    def read(self, value: Any) -> int:
        """Return the whole number."""
        if not isinstance(value, int | float) or value != value // 1:
            words = "a whole number"
        else:
            value = int(value)
            words = self.rule(value)
        if words:
            raise InputError(f"{self.label} must be {words}; got {value_text(value)}")
        return int(value)


@dataclass(frozen=True)
class SliderField:
    """A number between two others. The sliders of a ``group`` stand together below its name."""

    label: str
    low: float
    high: float
    step: float
    value: float = 0.0
    group: str = ""
    hint: str = ""

    def read(self, value: Any) -> float:
        """Return the number."""
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise InputError(
                f"{self.label} must be in [{self.low:g}, {self.high:g}]; got {value_text(value)}"
            )
        return float(value)


@dataclass(frozen=True)
class ChoiceField:
    """One of several names."""

    label: str
    choices: tuple[str, ...]
    value: str
    hint: str = ""

    def read(self, value: Any) -> str:
        """Return the name."""
        if value not in self.choices:
            raise InputError(f"{self.label} must be one of {', '.join(self.choices)}; got {value}")
        return str(value)


@dataclass(frozen=True)
class ChoicesField:
    """At least one of several names."""

    label: str
    choices: tuple[str, ...]
    value: tuple[str, ...]
    hint: str = ""

    def read(self, value: Any) -> tuple[str, ...]:
        """Return the names, in the order of the choices."""
        chosen = tuple(choice for choice in self.choices if choice in (value or ()))
        if not chosen:
            raise InputError(f"{self.label}: choose at least one")
        return chosen


@dataclass(frozen=True)
class Panel:
    """A form of the page, a tab.

    Args:
        title: the tab's name, in a word or two.
        about: what the panel shows, and what its fields mean; a sentence or two.
        fields: what the user gives.
        act: takes the values of the fields and returns the answer, HTML; None where the panel only
            says why there is nothing to do.
        button: the label of the button that asks for the answer.
    """

    title: str
    about: str
    fields: Sequence[Field] = ()
    act: Callable[..., str] | None = None
    button: str = "Show"

    def answer(self, *values: Any) -> str:
        """Return the answer to the values of the widgets, or a line on what is wrong with them."""
        if self.act is None:
            return ""
        try:
            pairs = zip(self.fields, values, strict=True)
            return self.act(*(field.read(value) for field, value in pairs))
        except InputError as error:
            return paragraph(str(error), "warning")
