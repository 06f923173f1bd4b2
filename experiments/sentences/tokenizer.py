"""Token ids of texts for a RoFormer-Sim: single spaces, maybe lower case, cut to a length."""

from collections.abc import Sequence

from jaxtyping import Int64
from torch import Tensor

from experiments.data.text_notes import Tally
from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.special import END
from univae.text.tokenizers import TOKENIZERS, Tokenizer, pad

__all__ = ["SimilarText", "normalised", "tokenizer_input", "truncate"]


class SimilarText:
    """A tokenizer for sentences; a :class:`univae.text.corpus.Encoder`.

    Runs of white space count as one space. For BPE every text starts with a space, so that a word
    has the same tokens wherever it stands. Texts are cut to ``max_length`` tokens, their end token
    included; ``tally`` counts them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
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
        """Return the same tokenizer; ``tally`` counts the texts that it encodes."""
        return SimilarText(self.tokenizer, self.max_length, self.lowercase, tally)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, cut to ``max_length``, without the end token."""
        kind = self.tokenizer.kind
        prepared = [tokenizer_input(text, kind, self.lowercase) for text in texts]
        encoded = self.tokenizer.encode_batch(prepared)
        if self.tally is not None:
            self.tally.texts += len(texts)
            self.tally.cut += sum(len(ids) >= self.max_length for ids in encoded)
            self.tally.words += sum(len(text.split()) for text in texts)
            self.tally.unknown_words += sum(map(self.unknown, texts))
        return [
            ids if len(ids) < self.max_length else truncate([[*ids, END]], self.max_length)[0][:-1]
            for ids in encoded
        ]

    def batch(self, texts: Sequence[str]) -> Int64[Tensor, "batch T"]:
        """Return padded ids, one end token each."""
        return pad(self.encode_batch(texts))

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of ids, up to the end token."""
        return " ".join(self.tokenizer.decode(ids).split())

    def contains(self, text: Sequence[int], word: str) -> list[int]:
        """Return the positions in ``text`` of the tokens of ``word``, wherever it occurs."""
        word_ids = self.encode_batch([word])[0]
        if not word_ids:
            raise InputError(f"a word to keep or to mask must not be empty; got {word!r}")
        starts = [i for i in range(len(text)) if list(text[i : i + len(word_ids)]) == word_ids]
        return [i + j for i in starts for j in range(len(word_ids))]

    def unknown(self, text: str) -> int:
        """Return how many words of the text the vocabulary lacks."""
        return self.tokenizer.unknown(normalised(text, self.lowercase))

    def to_json(self) -> JsonObject:
        """Return the tokenizer and its settings as JSON."""
        return {
            **self.tokenizer.to_json(),
            "max_length": self.max_length,
            "lowercase": self.lowercase,
        }


def normalised(text: str, lowercase: bool) -> str:
    """Return a text with single spaces, in lower case if asked for."""
    text = " ".join(text.split())
    return text.lower() if lowercase else text


def tokenizer_input(text: str, kind: str, lowercase: bool) -> str:
    """Return a text as a tokenizer of ``kind`` is trained on it and encodes it."""
    text = normalised(text, lowercase)
    return TOKENIZERS[kind].text_prefix + text if text else text


def truncate(texts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
    """Cut texts to ``limit`` ids in all.

    The longest text, the first of several, loses the id before its last one until they fit.
    """
    cut = [list(text) for text in texts]
    while sum(map(len, cut)) > limit:
        longest = max(cut, key=len)
        if len(longest) < 2:
            raise InputError(
                f"truncate: {len(cut)} texts keep their last id; got limit={limit}; raise it"
            )
        del longest[-2]
    return cut
