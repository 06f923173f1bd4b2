"""What reading, cutting and tokenising leave of texts, in numbers and as one-line notes."""

from collections.abc import Mapping
from typing import Any

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

MUCH = 0.01  # a larger share of unknown words is noted in training
LIKELIHOODS = "; likelihoods are of words and <unk>"  # what unknown words mean for a text VAE


def notes_of(record: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the notes that ``data.json`` holds, of all its roles."""
    return [note for entry in record.values() for note in entry.get("notes", [])]


def unknown_shares(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shares of unknown words that an entry of ``data.json`` holds."""
    return {name: share for name, share in entry.items() if name.startswith("unknown_words_")}


def share_of(part: int, whole: int) -> float:
    """Return ``part / whole``; 0 of nothing."""
    return part / whole if whole else 0.0


def percent(part: int, whole: int) -> str:
    """Return a share as text, a small one to two digits, so that it is not 0%.

    >>> percent(540, 600), percent(25, 13139), percent(0, 9)
    ('90%', '0.19%', '0%')
    """
    share = 100 * share_of(part, whole)
    return f"{share:.2g}%" if share < 10 else f"{share:.0f}%"


def left_out_notes(option: str, dropped: int, count: int, max_length: int) -> list[str]:
    """Say how many of ``count`` texts were left out for their length; nothing where none was."""
    if not dropped:
        return []
    of_all = f"{dropped} of {count} texts ({percent(dropped, count)})"
    verb = "has" if dropped == 1 else "have"
    was = "was" if dropped == 1 else "were"
    return [
        f"{option}: {of_all} {verb} more than max_length={max_length} tokens and {was} left out; raise --max-length"
    ]


def cut_notes(source: str, tally: Tally, max_length: int) -> list[str]:
    """Say how many texts a sentence model read cut to ``max_length`` tokens, if any."""
    if not tally.cut:
        return []
    of_all = f"{tally.cut} of {tally.texts} texts ({percent(tally.cut, tally.texts)})"
    verb = "has" if tally.cut == 1 else "have"
    was = "was" if tally.cut == 1 else "were"
    length = f"more than max_length={max_length} tokens"
    return [f"{source}: {of_all} {verb} {length} and {was} cut to it"]


def unknown_notes(
    source: str,
    unknown: int,
    words: int,
    above: float = 0.0,
    meaning: str = "",
) -> list[str]:
    """Say how many words are unknown to the vocabulary, if their share is above ``above``."""
    share = share_of(unknown, words)
    if share <= above:
        return []
    of_all = f"{unknown} of {words} words ({share:.1%})"
    verb = "is" if unknown == 1 else "are"
    return [f"{source}: {of_all} {verb} unknown to the vocabulary and read as <unk>{meaning}"]


def longer_notes(
    source: str,
    longer: int,
    count: int,
    max_length: int,
    written: bool = False,
) -> list[str]:
    """Say how many texts are longer than those a text VAE was trained on; it reads them whole.

    ``written``: the texts that it writes end at ``max_length`` tokens.
    """
    if not longer:
        return []
    of_all = f"{longer} of {count} texts ({percent(longer, count)})"
    verb = "has" if longer == 1 else "have"
    kept = f"what is written ends at {max_length} tokens" if written else "nothing was cut"
    return [
        f"{source}: {of_all} {verb} more than max_length={max_length} tokens, more than the model "
        f"was trained on; {kept}, and what the model says of them is an extrapolation"
    ]
