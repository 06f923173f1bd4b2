"""How texts become ids for a RoFormer-Sim: white space and case levelled, tokenised, cut."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from experiments.data.text_notes import Tally
from univae.errors import InputError
from univae.text.special import END
from univae.text.tokenizers import Tokenizer, pad

__all__ = ["SimilarText", "truncate"]


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

    def level(self, text: str) -> str:
        """The text without what the model does not see."""
        text = " ".join(text.split())
        return text.lower() if self.lowercase else text

    def lead(self, text: str) -> str:
        """The text as the tokenizer sees it."""
        text = self.level(text)
        return self.tokenizer.text_prefix + text if text else text

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens, without end."""
        encoded = self.tokenizer.encode_batch([self.lead(text) for text in texts])
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
        """Padded ids, one end token each."""
        return pad(self.encode_batch(texts))

    def decode(self, ids: Any) -> str:
        """The text of ids, up to the end."""
        return " ".join(self.tokenizer.decode(ids).split())

    def contains(self, text: Sequence[int], word: str) -> list[int]:
        """The first places in ``text`` at which the tokens of ``word`` begin and what follows in turn."""
        wanted = self.encode_batch([word])[0]
        if not wanted:
            raise InputError(f"a word to keep or to mask must not be empty; got {word!r}")
        starts = [i for i in range(len(text)) if list(text[i : i + len(wanted)]) == wanted]
        return [i + j for i in starts for j in range(len(wanted))]

    def unknown(self, text: str) -> int:
        return self.tokenizer.unknown(self.level(text))

    def to_json(self) -> dict[str, Any]:
        return {
            **self.tokenizer.to_json(),
            "max_length": self.max_length,
            "lowercase": self.lowercase,
        }


def truncate(texts: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
    """Cut texts to ``limit`` ids in all: again and again the longest loses the id before its last, which stays.

    Of texts equally long the first one loses.
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
