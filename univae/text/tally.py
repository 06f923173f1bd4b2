"""Counts of what encoding texts changes."""

from dataclasses import dataclass

__all__ = ["Tally"]


@dataclass
class Tally:
    """Counts of texts, texts longer than ``max_length``, words, and unknown words.

    The names of the fields are keys of the file that describes a matrix of vectors.
    """

    texts: int = 0
    cut: int = 0
    words: int = 0
    unknown_words: int = 0

    def add(self, other: "Tally") -> None:
        """Add the counts of further texts."""
        self.texts += other.texts
        self.cut += other.cut
        self.words += other.words
        self.unknown_words += other.unknown_words
