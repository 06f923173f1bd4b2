"""Notes on texts that are too long, and on words that are unknown to a vocabulary."""

from collections.abc import Mapping

from univae.checkpoint import JsonObject
from univae.text.tally import Tally

__all__ = [
    "LIKELIHOODS",
    "MUCH",
    "Tally",
    "cut_notes",
    "left_out_notes",
    "longer_notes",
    "notes_of",
    "share_of",
    "unknown_notes",
    "unknown_shares",
]

MUCH = 0.01  # share of unknown words above which training prints a note
LIKELIHOODS = "; likelihoods are of words and <unk>"  # consequence for a text VAE
UNKNOWN_SHARE = "unknown_words_"  # beginning of the keys of such shares in data.json
TWO_DIGITS = 10  # a smaller percentage is written with two significant digits


def notes_of(record: Mapping[str, JsonObject]) -> list[str]:
    """Return the notes of all entries of ``data.json``."""
    return [note for entry in record.values() for note in entry.get("notes", [])]


def unknown_shares(entry: JsonObject) -> JsonObject:
    """Return the shares of unknown words in an entry of ``data.json``, by their keys."""
    return {name: share for name, share in entry.items() if name.startswith(UNKNOWN_SHARE)}


def share_of(count: int, total: int) -> float:
    """Return ``count / total``; 0 where the total is 0."""
    return count / total if total else 0.0


def percent(count: int, total: int) -> str:
    """Return a share as text, with two digits below 10%, so that a small share is not 0%.

    >>> percent(540, 600), percent(25, 13139), percent(0, 9)
    ('90%', '0.19%', '0%')
    """
    share = 100 * share_of(count, total)
    return f"{share:.2g}%" if share < TWO_DIGITS else f"{share:.0f}%"


def left_out_notes(option: str, dropped: int, count: int, max_length: int) -> list[str]:
    """Return a note on how many of ``count`` texts were too long, if any."""
    if not dropped:
        return []
    subject = f"{_texts(dropped, count)} {_have(dropped)} more than max_length={max_length} tokens"
    return [f"{option}: {subject} and {_were(dropped)} left out; raise --max-length"]


def cut_notes(source: str, tally: Tally, max_length: int) -> list[str]:
    """Return a note on how many texts a sentence model cut to ``max_length`` tokens, if any."""
    if not tally.cut:
        return []
    subject = f"{_texts(tally.cut, tally.texts)} {_have(tally.cut)}"
    return [
        f"{source}: {subject} more than max_length={max_length} tokens and {_were(tally.cut)} "
        "cut to it"
    ]


def unknown_notes(
    source: str,
    unknown: int,
    words: int,
    above: float = 0.0,
    meaning: str = "",
) -> list[str]:
    """Return a note on how many words are unknown, if their share exceeds ``above``.

    ``meaning``, the consequence for the numbers of the command, is appended.
    """
    share = share_of(unknown, words)
    if share <= above:
        return []
    subject = f"{unknown} of {words} words ({share:.1%})"
    verb = "is" if unknown == 1 else "are"
    return [f"{source}: {subject} {verb} unknown to the vocabulary and read as <unk>{meaning}"]


def longer_notes(
    source: str,
    longer: int,
    count: int,
    max_length: int,
    *,
    decoded: int = 0,
) -> list[str]:
    """Return a note on how many texts are longer than all texts of a text VAE's training set.

    The model reads them whole; ``decoded`` is the most tokens of the texts that it decodes, 0 where
    it decodes none.
    """
    if not longer:
        return []
    subject = f"{_texts(longer, count)} {_have(longer)} more than max_length={max_length} tokens"
    limit = f"decoded texts end at {decoded} tokens" if decoded else "nothing was cut"
    return [
        f"{source}: {subject}, more than the model was trained on; {limit}, and the model "
        "extrapolates"
    ]


def _texts(count: int, total: int) -> str:
    return f"{count} of {total} texts ({percent(count, total)})"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
