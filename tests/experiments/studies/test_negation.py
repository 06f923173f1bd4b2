"""The rules of negations: what has one, and what differs in it alone."""

import doctest

import pytest

from experiments.studies import negation
from experiments.studies.negation import flips, has_negation, toggled


def test_the_examples_of_the_module_hold() -> None:
    failed, attempted = doctest.testmod(negation)
    assert (failed, attempted) == (0, 3)


@pytest.mark.parametrize(
    ("affirmative", "negative"),
    [
        ("Is it possible to fly?", "Isn't it possible to fly?"),
        ("Why do people lie?", "Why don't people lie?"),
        ("Will he come?", "Won't he come?"),
        ("What can I do to sleep?", "What can't I do to sleep?"),
        ("The girl is happy.", "The girl is not happy."),
        ("they did come", "they did not come"),
        ("I can swim.", "I cannot swim."),
    ],
)
def test_an_auxiliary_is_negated_and_back(affirmative: str, negative: str) -> None:
    assert toggled(affirmative) == negative
    assert toggled(negative) == affirmative
    assert flips(affirmative, negative)


@pytest.mark.parametrize(
    ("negative", "affirmative"),
    [
        ("I don’t know.", "I do know."),
        ("He has never been there.", "He has been there."),
        ("Never say so.", "Say so."),
        ("Nobody came.", "Someone came."),
        ("A man without a shirt.", "A man with a shirt."),
        ("There is no water.", "There is some water."),
        ("He no longer works.", "He still works."),
        ("How not to be afraid?", "How to be afraid?"),
        ("You shan't go, it ain’t far", None),
        ("We shan't go", "We shall go"),
    ],
)
def test_other_negations_are_affirmed(negative: str, affirmative: str | None) -> None:
    assert has_negation(negative)
    assert toggled(negative) == affirmative


@pytest.mark.parametrize(
    "text",
    [
        "Should I go or not?",  # two answers, no negation to take away
        "No, thanks.",
        "Neither of them came.",
        "I don't know why not to go.",
        "a trash can on the road",
        "something to do",
        "",
    ],
)
def test_a_text_that_no_rule_fits_is_left_alone(text: str) -> None:
    assert toggled(text) is None


def test_parts_of_words_are_no_negations() -> None:
    assert not flips("he can not go", "he never goes")
    assert not flips("a notable man", "a knot")
    assert flips("No one came", "they came")
