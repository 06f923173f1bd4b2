"""The interface of a tokenizer, which maps text to token ids and back.

Ids 0, 1 and 2 are PAD, START and END in every tokenizer; regular tokens follow. ``encode`` returns
regular tokens only: :func:`univae.text.padding.pad` and the corpus append END, and START is only
the first input of a model.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.special import END, PAD, RESERVED

__all__ = ["Tokenizer", "most_frequent", "require_strings", "utf8", "without_surrogates"]

# characters in a message before the one that UTF-8 cannot encode
CONTEXT = 20

# different pieces that are counted at once; about 150 MB of words
MOST_COUNTED = 2**20

# characters of an invalid value in a message
LONGEST_VALUE = 60


class Tokenizer(ABC):
    """Maps texts to token ids in ``[3, vocab_size)`` and back.

    A kind of tokenizer is a subclass, and a row of :data:`univae.text.tokenizers.TOKENIZERS`.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]  # for the help of --tokenizer

    # smallest ``vocab_size`` that :meth:`train` accepts; 0 if it ignores ``vocab_size``
    least_vocabulary: ClassVar[int]

    # whether ``decode(encode(text)) == text`` for every text
    lossless: ClassVar[bool] = True

    # whether a word may be several tokens, so that word boundaries depend on their letters
    splits_words: ClassVar[bool] = True

    # prepended to a text so that its first word has the same tokens as inside a text
    text_prefix: ClassVar[str] = ""

    vocab_size: int
    pad: int = PAD
    end: int = END

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Build a tokenizer of at most ``vocab_size`` ids from one pass over ``texts``."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the text's tokens, without START and END.

        Raises:
            InputError: the text holds a lone surrogate, which UTF-8 cannot encode.
        """

    @abstractmethod
    def to_json(self) -> JsonObject:
        """Return the arguments of the constructor and the kind, as JSON values."""

    @abstractmethod
    def _join(self, tokens: list[int]) -> str:
        """Return the text of any regular tokens, counted from 0; never raises."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return :meth:`encode` of every text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int] | Tensor | np.ndarray) -> str:
        """Return the text of any ids up to END.

        PAD, START and ids outside the vocabulary are skipped; invalid UTF-8 becomes U+FFFD.
        """
        tokens = ids.tolist() if isinstance(ids, Tensor | np.ndarray) else list(ids)
        if END in tokens:
            tokens = tokens[: tokens.index(END)]
        return self._join(
            [token - RESERVED for token in tokens if RESERVED <= token < self.vocab_size]
        )

    def exact(self, text: str) -> bool:
        """Return whether ``decode(encode(text)) == text``."""
        return self.decode(self.encode(text)) == text

    def unknown(self, text: str) -> int:
        """Return the number of words outside the vocabulary; 0 with a byte fallback."""
        return 0

    def continues_word(self, token: int) -> bool | None:
        """Return whether a regular id continues the word before it; None: its letters decide."""
        return None


def utf8(text: str) -> bytes:
    """Return the text in UTF-8.

    Raises:
        InputError: the text holds a lone surrogate; the message shows the characters around it.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        excerpt = text[max(error.start - CONTEXT, 0) : error.end]
        raise InputError(
            "text: UTF-8 cannot encode half of a surrogate pair; "
            f"got {excerpt!r}; replace it by U+FFFD"
        ) from error


def without_surrogates(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts; raise :class:`InputError` at a lone surrogate, which no file can store."""
    for text in texts:
        utf8(text)
        yield text


def require_strings(name: str, values: object) -> None:
    """Raise :class:`InputError` unless ``values`` is a list or tuple of distinct strings."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise InputError(
            f"tokenizer: {name} must be a list of strings; got {str(values)[:LONGEST_VALUE]}"
        )
    repeated = len(values) - len(set(values))
    if repeated:
        raise InputError(f"tokenizer: {name} must be distinct; {repeated} repeat")


def most_frequent(texts: Iterable[Iterable[str]], size: int) -> list[str]:
    """Return the ``size`` most frequent pieces of all texts; ties by code point.

    Where more than a million pieces differ, and 4 ``size``, the rarest so far are forgotten now and
    then, which bounds memory (lossy counting, Manku and Motwani, 2002). A piece may then count less
    than it occurs.

    Raises:
        InputError: the texts have no pieces.
    """
    counts = Counter[str]()
    most = max(MOST_COUNTED, 4 * size)
    for pieces in texts:
        counts.update(pieces)
        if len(counts) > most:
            counts = Counter(dict(counts.most_common(most // 2)))
    if not counts:
        raise InputError("tokenizer: needs at least one non-empty text; got none")
    return sorted(counts, key=lambda piece: (-counts[piece], piece))[:size]
