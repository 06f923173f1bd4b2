"""Shares of words that the vocabulary of a text run lacks, for ``data.json`` and notes."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from experiments.data.text_notes import LIKELIHOODS, MUCH, share_of, unknown_notes
from univae.checkpoint import JsonObject
from univae.text.corpus import Corpus
from univae.text.lines import is_short
from univae.text.tokenizers import Tokenizer

__all__ = ["WordCount", "add_unknown_words", "count_words_at", "count_words_of"]


class WordCount(NamedTuple):
    """A number of unknown words among all words."""

    unknown: int
    words: int

    def minus(self, other: "WordCount") -> "WordCount":
        """Return the count of the words that are not in ``other``."""
        return WordCount(self.unknown - other.unknown, self.words - other.words)


def count_words_of(corpus: Corpus) -> WordCount:
    """Return the count of all texts of a corpus."""
    return WordCount(corpus.totals["unknown_words"], corpus.totals["words"])


def count_words_at(
    rows: np.ndarray, texts: Iterable[str], tokenizer: Tokenizer, max_length: int
) -> WordCount:
    """Return the count of some rows of the corpus that was built from ``texts``.

    Args:
        rows: ascending indices of texts in the corpus.
        texts: all texts, those that the corpus leaves out for their length included.
        tokenizer: the tokenizer of the corpus.
        max_length: most tokens of a text in the corpus, its end token included.
    """
    longest = max_length - 1
    short = filter(is_short, texts)
    in_corpus = (text for text in short if len(tokenizer.encode(text)) <= longest)
    unknown = 0
    words = 0
    next_row = 0
    for row, text in enumerate(in_corpus):
        if next_row == len(rows):
            break
        if row == rows[next_row]:
            next_row += 1
            unknown += tokenizer.unknown(text)
            words += len(text.split())
    return WordCount(unknown, words)


def add_unknown_words(entry: JsonObject, texts: str, count: WordCount) -> None:
    """Add the share of unknown words to an entry of ``data.json``, and a note if it is above 1%.

    ``texts`` is ``training`` or ``held_out``.
    """
    entry[f"unknown_words_{texts}"] = share_of(count.unknown, count.words)
    label = f"{texts.replace('_', '-')} texts"
    entry["notes"] += unknown_notes(
        label, count.unknown, count.words, above=MUCH, meaning=LIKELIHOODS
    )
