r"""Negations in English sentences: whether there is one, and texts that differ in nothing else.

The rules know auxiliaries and a few words; a text that they do not fit is left alone.

>>> toggled("Why can't I fly?"), toggled("Why can I fly?")
('Why can I fly?', "Why can't I fly?")
>>> toggled("A man is not here."), toggled("A man is here.")
('A man is here.', 'A man is not here.')
>>> toggled("two dogs in the snow") is None
True
"""

import re
from collections.abc import Mapping, Sequence

__all__ = ["flips", "has_negation", "toggled"]

NEGATION = re.compile(
    r"\b(?:not|no|never|nobody|nothing|none|without|neither|nor|cannot)\b|n['’]t\b", re.IGNORECASE
)

CONTRACTED: Mapping[str, str] = {
    "is": "isn't",
    "are": "aren't",
    "was": "wasn't",
    "were": "weren't",
    "can": "can't",
    "could": "couldn't",
    "will": "won't",
    "would": "wouldn't",
    "should": "shouldn't",
    "do": "don't",
    "does": "doesn't",
    "did": "didn't",
}
# In a question the subject follows the auxiliary: "Why do not people" would be wrong.
ASKED = re.compile(rf"(?<!\bto )\b({'|'.join(CONTRACTED)})\b(?= +\w)", re.IGNORECASE)
# Elsewhere "can" may be a container and "do" a verb: they count behind a pronoun only.
STATED = re.compile(
    r"\b(is|are|was|were|could|will|would|should|does|did|"
    r"(?<=\bI )can|(?<=\bwe )can|(?<=\bhe )can|(?<=\bshe )can|(?<=\byou )can|(?<=\bthey )can)\b"
    r"(?= +\w)",
    re.IGNORECASE,
)

# What replaces a negation, the first that fits. Others, such as "neither", have no simple opposite.
AFFIRMED: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern, re.IGNORECASE), affirmation)
    for pattern, affirmation in (
        (r"\bcan['’]t\b|\bcannot\b", "can"),
        (r"\bwon['’]t\b", "will"),
        (r"\bshan['’]t\b", "shall"),
        (r"\bain['’]t\b", "is"),
        (r"(?<=\w)n['’]t\b", ""),
        (r"\bno one\b|\bnobody\b", "someone"),
        (r"\bnothing\b", "something"),
        (r"\bwithout\b", "with"),
        (r"\bno longer\b", "still"),
        (r"(?<!\bor )\b(?:not|never) +(?=\w)", ""),
        (r"\bno +(?=\w)", "some "),
    )
]


def has_negation(text: str) -> bool:
    """Return whether an English text has a negation."""
    return NEGATION.search(text) is not None


def flips(source: str, text: str) -> bool:
    """Return whether exactly one of two English texts has a negation."""
    return has_negation(source) != has_negation(text)


def toggled(text: str) -> str | None:
    """Return a text without its only negation, or with a new one; None where no rule fits."""
    negations = len(NEGATION.findall(text))
    if negations > 1:
        return None
    other = _affirmed(text) if negations else _negated(text)
    return other if other is not None and flips(text, other) else None


def _affirmed(text: str) -> str | None:
    for pattern, affirmation in AFFIRMED:
        match = pattern.search(text)
        if match is not None:
            start, end = match.span()
            if affirmation:
                return text[:start] + _in_case_of(match[0], affirmation) + text[end:]
            return text[:start] + _in_case_of(match[0], text[end:])
    return None


def _negated(text: str) -> str | None:
    """Return a text with a negated auxiliary: contracted in a question, as a word elsewhere."""
    is_question = text.rstrip().endswith("?")
    match = (ASKED if is_question else STATED).search(text)
    if match is None:
        return None
    word = match[1]
    if is_question:
        negated = _in_case_of(word, CONTRACTED[word.lower()])
    else:
        negated = f"{word}not" if word.lower() == "can" else f"{word} not"
    return text[: match.start(1)] + negated + text[match.end(1) :]


def _in_case_of(model: str, text: str) -> str:
    """Return a text whose first letter is a capital if that of ``model`` is one."""
    return text[:1].upper() + text[1:] if model[:1].isupper() else text
