"""Texts as a RoFormer-Sim reads them: white space and case normalised, tokenised, cut."""

from collections.abc import Sequence

from jaxtyping import Int64
from torch import Tensor

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.special import END
from univae.text.tally import Tally
from univae.text.tokenizers import TOKENIZERS, Tokenizer, pad

__all__ = ["SimilarText", "normalised", "tokenizer_input", "truncate"]


class SimilarText:
    """A tokenizer for sentences; a :class:`univae.text.corpus.Encoder`.

    Runs of white space count as one space. For BPE every text starts with a space, so that a word
    has the same tokens at every position. Texts are cut to ``max_length`` tokens, their end token
    included; ``tally`` counts them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        *,
        lowercase: bool = False,
        tally: Tally | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.lowercase = lowercase
        self.tally = tally
        self.vocab_size = tokenizer.vocab_size
        self.pad = tokenizer.pad
        self.end = tokenizer.end

    def counting(self, tally: Tally | None) -> "SimilarText":
        """Return the same tokenizer, which counts the texts it encodes in ``tally``."""
        return SimilarText(self.tokenizer, self.max_length, lowercase=self.lowercase, tally=tally)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, without the end token."""
        kind = self.tokenizer.kind
        inputs = [tokenizer_input(text, kind, lowercase=self.lowercase) for text in texts]
        encoded = self.tokenizer.encode_batch(inputs)
        if self.tally is not None:
            self._count(self.tally, texts, encoded)
        return [self._cut(ids) for ids in encoded]

    def batch(self, texts: Sequence[str]) -> Int64[Tensor, "batch T"]:
        """Return padded ids, one end token a text."""
        return pad(self.encode_batch(texts))

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of ids, up to the end token."""
        return " ".join(self.tokenizer.decode(ids).split())

    def contains(self, text: Sequence[int], word: str) -> list[int]:
        """Return the positions in ``text`` of all tokens of all occurrences of ``word``.

        Raises:
            InputError: the word is empty.
        """
        wanted = self.encode_batch([word])[0]
        if not wanted:
            raise InputError(f"a word to keep or to mask must not be empty; got {word!r}")
        starts = [i for i in range(len(text)) if list(text[i : i + len(wanted)]) == wanted]
        return [start + offset for start in starts for offset in range(len(wanted))]

    def unknown(self, text: str) -> int:
        """Return the number of words that the vocabulary lacks."""
        return self.tokenizer.unknown(normalised(text, lowercase=self.lowercase))

    def to_json(self) -> JsonObject:
        """Return the tokenizer's state with ``max_length`` and ``lowercase``."""
        return {
            **self.tokenizer.to_json(),
            "max_length": self.max_length,
            "lowercase": self.lowercase,
        }

    def _count(self, tally: Tally, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> None:
        tally.texts += len(texts)
        tally.cut += sum(len(ids) >= self.max_length for ids in encoded)
        tally.words += sum(len(text.split()) for text in texts)
        tally.unknown_words += sum(map(self.unknown, texts))

    def _cut(self, ids: list[int]) -> list[int]:
        if len(ids) < self.max_length:
            return ids
        return truncate([[*ids, END]], self.max_length)[0][:-1]


def normalised(text: str, *, lowercase: bool) -> str:
    """Return a text with single spaces, and in lower case if the model ignores case."""
    text = " ".join(text.split())
    return text.lower() if lowercase else text


def tokenizer_input(text: str, kind: str, *, lowercase: bool) -> str:
    """Return a text as a tokenizer of ``kind`` is trained on it, with its prefix."""
    text = normalised(text, lowercase=lowercase)
    return TOKENIZERS[kind].text_prefix + text if text else text


def truncate(texts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
    """Cut texts to ``limit`` ids in all, from the longest first; their last ids stay.

    Again and again the longest text, of equally long ones the first, loses the id before its last.

    Raises:
        InputError: the last ids alone are more than ``limit``.
    """
    cut = [list(text) for text in texts]
    while sum(map(len, cut)) > limit:
        longest = max(cut, key=len)
        if len(longest) == 1:
            raise InputError(
                f"truncate: {len(cut)} texts keep their last id; got limit={limit}; raise it"
            )
        del longest[-2]
    return cut
