"""A tokenizer of words: one token each, with a token for all words outside its vocabulary."""

from collections.abc import Iterable, Sequence

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.special import RESERVED
from univae.text.tokenizer import Tokenizer, most_frequent, require_strings, utf8

__all__ = ["UNKNOWN", "Words"]

UNKNOWN = "<unk>"


class Words(Tokenizer):
    """Words separated by white space, decoded with single spaces between them.

    A word outside ``words`` is encoded as ``<unk>``, so only texts of words in the vocabulary
    decode to themselves.
    """

    kind = "words"
    summary = "words, unknown ones as <unk>"
    least_vocabulary = RESERVED + 1
    lossless = False
    splits_words = False

    def __init__(self, words: Sequence[str]) -> None:
        require_strings("words", words)
        self.words = list(words)
        self.vocab_size = RESERVED + len(words)
        self._ids = {word: RESERVED + i for i, word in enumerate(words)}
        if UNKNOWN not in self._ids:
            raise InputError(
                f"tokenizer: words must contain {UNKNOWN}; got {len(words)} without it; add it"
            )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Keep the most frequent words, and ``<unk>`` in place of the rarest if it is not one."""
        size = vocab_size - RESERVED
        words = most_frequent((text.split() for text in texts), size)
        if UNKNOWN not in words:
            words = [*words[: size - 1], UNKNOWN]
        return cls(words)

    def encode(self, text: str) -> list[int]:
        """Return one id per word."""
        utf8(text)  # a lone surrogate is an error, not an unknown word
        unknown = self._ids[UNKNOWN]
        return [self._ids.get(word, unknown) for word in text.split()]

    def unknown(self, text: str) -> int:
        """Return the number of words outside the vocabulary; a literal ``<unk>`` is in it."""
        return sum(word not in self._ids for word in text.split())

    def to_json(self) -> JsonObject:
        """Return the kind and the words."""
        return {"kind": self.kind, "words": self.words}

    def _join(self, tokens: list[int]) -> str:
        return " ".join([self.words[token] for token in tokens])
