"""Fields take values that keep their rules; an answer to others is a line that says why."""

from typing import Any

import pytest

from experiments.explorer.panels import (
    ChoiceField,
    ChoicesField,
    NumberField,
    Panel,
    SliderField,
    TextField,
)
from univae.errors import InputError
from univae.rules import at_least

TEXT = TextField("Text")
NUMBER = NumberField("Draws", 5, at_least(1, 9))
SLIDER = SliderField("Top p", 0.1, 1, 0.1)
CHOICE = ChoiceField("Class", ("cat", "dog"), "cat")
CHOICES = ChoicesField("Layers", ("0", "1", "2"), ("0",))


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        (TEXT, "  a cat ", "a cat"),
        (TextField("Words", optional=True), None, ""),
        (NUMBER, 3.0, 3),
        (SLIDER, 1, 1.0),
        (CHOICE, "dog", "dog"),
        (CHOICES, ["2", "0"], ("0", "2")),
    ],
)
def test_a_value_is_read_as_a_function_takes_it(field: Any, value: object, read: object) -> None:
    assert field.read(value) == read
    assert type(field.read(value)) is type(read)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (TEXT, " ", "Text is empty; type a text"),
        (TEXT, None, "Text is empty"),
        (TEXT, "x" * 20_001, "Text must have at most 20000 characters; got 20001"),
        (NUMBER, None, "Draws must be a whole number; got None"),
        (NUMBER, 2.5, "Draws must be a whole number; got 2.5"),
        (NUMBER, float("nan"), "Draws must be a whole number; got nan"),
        (NUMBER, float("inf"), "Draws must be a whole number; got inf"),
        (NUMBER, "3", "Draws must be a whole number"),
        (NUMBER, 0, "Draws must be at least 1; got 0"),
        (NUMBER, 10, "Draws must be at most 9; got 10"),
        (SLIDER, 2, r"Top p must be in \[0.1, 1\]; got 2"),
        (SLIDER, None, "Top p must be in"),
        (SLIDER, float("nan"), "Top p must be in"),
        (CHOICE, "cow", "Class must be one of cat, dog; got cow"),
        (CHOICES, [], "Layers: choose at least one"),
        (CHOICES, ["7"], "Layers: choose at least one"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused(field: Any, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        field.read(value)


def test_an_answer_is_that_of_the_values_or_a_line_that_says_why_there_is_none() -> None:
    panel = Panel("Title", "About", (TEXT, NUMBER), lambda text, count: text * count)
    assert panel.answer("ab", 2) == "abab"
    warning = panel.answer("ab", 99)
    assert warning == '<p class="warning">Draws must be at most 9; got 99</p>\n'
    assert Panel("Title", "why not").answer() == ""


def test_a_message_cannot_bring_markup_into_the_page() -> None:
    panel = Panel("Title", "About", (CHOICE,), lambda choice: choice)
    assert "<script>" not in panel.answer("<script>alert(1)</script>")
