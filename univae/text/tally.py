"""Counts of what encoding texts changes."""

from dataclasses import dataclass

__all__ = ["Tally"]


@dataclass
class Tally:
    """Numbers of encoded texts, of texts cut to ``max_length``, of words and of unknown words."""

    texts: int = 0
    cut: int = 0
    words: int = 0
    unknown_words: int = 0
