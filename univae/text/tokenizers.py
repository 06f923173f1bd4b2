"""Text to token ids and back, exactly: bytes, characters, words and byte-level BPE.

All tokenizers share three ids, PAD, START and END; their own tokens follow. A text has its tokens
plus one END, and no other: ``encode`` gives the tokens alone, :func:`pad` and the corpus append the
END, and START is only ever the first input of a model. Bytes, characters and BPE reach all 256 byte
values, so they write every text and ``decode(encode(text)) == text``; words write the texts whose
words they know.
"""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tokenizers
import torch
from jaxtyping import Int64
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from univae.errors import InputError
from univae.rules import at_least
from univae.text.special import END, PAD, RESERVED

__all__ = [
    "KINDS",
    "VOCABULARY",
    "Tokenizer",
    "pad",
    "require_vocabulary",
    "tokenizer_from_json",
    "train_tokenizer",
]

BYTES = 256
UNKNOWN = "<unk>"

# ids of a tokenizer; the trainer of BPE ends the process where they are many more
VOCABULARY = at_least(1, 2**20)

# characters: the memory of BPE training grows with its text, its merges hardly change
BPE_SAMPLE = 20_000_000


class Tokenizer(ABC):
    """Text to ids and back.

    Ids lie in ``[0, vocab_size)``; ``encode`` emits none of PAD, START, END.
    """

    kind: str
    vocab_size: int
    pad: int = PAD
    end: int = END

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn at most ``vocab_size`` ids; see :func:`train_tokenizer`."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the text's tokens, without START or END.

        :class:`InputError` for a lone surrogate (no UTF-8).
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return all that :func:`tokenizer_from_json` needs, as JSON values."""

    @abstractmethod
    def _join(self, tokens: list[int]) -> str:
        """Return the text of arbitrary own tokens, counted from 0; it never fails."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return :meth:`encode` of every text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int] | Tensor | np.ndarray) -> str:
        """Return the text of any ids up to END: skips PAD, START and strangers.

        Invalid UTF-8 becomes U+FFFD.
        """
        listed = ids.tolist() if isinstance(ids, Tensor | np.ndarray) else list(ids)
        listed = listed[: listed.index(END)] if END in listed else listed
        return self._join(
            [token - RESERVED for token in listed if RESERVED <= token < self.vocab_size]
        )

    def exact(self, text: str) -> bool:
        """Tell whether ``decode(encode(text)) == text``."""
        return self.decode(self.encode(text)) == text

    def unknown(self, text: str) -> int:
        """Count the words the vocabulary cannot write; 0 where bytes can write everything."""
        return 0


class Chars(Tokenizer):
    """Known characters as one token each, any other as its UTF-8 bytes: ids are 3 reserved, 256 bytes, characters."""

    kind = "chars"

    def __init__(self, characters: str = "") -> None:
        if not isinstance(characters, str):
            kind = type(characters).__name__
            raise InputError(f"Chars: characters must be one string; got {kind}")
        self.characters = characters
        self.vocab_size = RESERVED + BYTES + len(characters)
        self._pieces = [bytes([byte]) for byte in range(BYTES)] + [
            utf8(character) for character in characters
        ]
        self._ids = {character: [RESERVED + BYTES + i] for i, character in enumerate(characters)}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        return cls("".join(most_frequent(texts, vocab_size - RESERVED - BYTES)))

    def encode(self, text: str) -> list[int]:
        known = self._ids
        ids = list[int]()
        for character in text:
            ids += known.get(character) or [byte + RESERVED for byte in utf8(character)]
        return ids

    def _join(self, tokens: list[int]) -> str:
        return b"".join([self._pieces[token] for token in tokens]).decode("utf-8", errors="replace")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "characters": self.characters}


class Bytes(Chars):
    """UTF-8 bytes: id = byte + 3, vocabulary 259; characters of which none is known."""

    kind = "bytes"

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        return cls()

    def encode(self, text: str) -> list[int]:
        return [byte + RESERVED for byte in utf8(text)]


class Words(Tokenizer):
    """White-space separated words, written back with single spaces.

    A word outside ``words`` becomes ``<unk>``.
    """

    kind = "words"

    def __init__(self, words: Sequence[str]) -> None:
        require_strings("words", words)
        self.words = list(words)
        self.vocab_size = RESERVED + len(words)
        self._ids = {word: RESERVED + i for i, word in enumerate(words)}
        if UNKNOWN not in self._ids:
            raise InputError(
                f"Words: the vocabulary needs {UNKNOWN}; {len(words)} words lack it; add it"
            )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        words = most_frequent((text.split() for text in texts), vocab_size - RESERVED)
        return cls(words if UNKNOWN in words else [*words[: vocab_size - RESERVED - 1], UNKNOWN])

    def encode(self, text: str) -> list[int]:
        utf8(text)  # refuses a lone surrogate, which is no unknown word
        return [self._ids.get(word, self._ids[UNKNOWN]) for word in text.split()]

    def unknown(self, text: str) -> int:
        return sum(word not in self._ids for word in text.split())

    def _join(self, tokens: list[int]) -> str:
        return " ".join([self.words[token] for token in tokens])

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "words": self.words}


class BPE(Tokenizer):
    """Byte-level BPE (https://arxiv.org/abs/1508.07909), id = its token + 3.

    It knows no special token of its own.
    """

    kind = "bpe"

    def __init__(self, tokens: Sequence[str], merges: Sequence[Sequence[str]]) -> None:
        require_strings("tokens", tokens)
        self.tokens = list(tokens)
        self.merges = [(left, right) for left, right in merges]
        self.vocab_size = RESERVED + len(tokens)
        vocabulary = {token: i for i, token in enumerate(tokens)}
        self._bpe = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=self.merges))
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._bpe.decoder = decoders.ByteLevel()
        # The fast path skips the offsets into the text, which nothing here reads; older versions
        # lack it.
        self._encode_batch = getattr(self._bpe, "encode_batch_fast", self._bpe.encode_batch)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        sample = sample_evenly(texts, BPE_SAMPLE)
        most_frequent((text[:1] for text in sample), 1)  # says so when there is no text
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        bpe = cls(alphabet, [])._bpe
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - RESERVED, initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(sample, trainer=trainer)
        vocabulary = bpe.get_vocab()
        merges = json.loads(bpe.to_str())["model"]["merges"]
        # Older versions write a merge as "left right"; byte-level tokens hold no space, so both
        # forms say the same.
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
        return cls(sorted(vocabulary, key=vocabulary.__getitem__), pairs)

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        utf8("".join(texts))  # the library would reject a lone surrogate without naming it
        return [
            [token + RESERVED for token in encoding.ids]
            for encoding in self._encode_batch(list(texts))
        ]

    def _join(self, tokens: list[int]) -> str:
        return self._bpe.decode(tokens)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "tokens": self.tokens,
            "merges": [list(pair) for pair in self.merges],
        }


KINDS: dict[str, type[Tokenizer]] = {"bytes": Bytes, "chars": Chars, "words": Words, "bpe": BPE}


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int = 8192) -> Tokenizer:
    """Build a tokenizer of at most ``vocab_size`` ids, reserved ones included, from one pass over ``texts``.

    ``bytes`` always has 259 ids and reads nothing; ``bpe`` learns from an even sample of 20 million
    characters. :class:`InputError` for another kind, a vocabulary too small for the kind, or no
    text.

    >>> words = train_tokenizer("words", ["a small cat", "a dog"], vocab_size=100)
    >>> words.decode(words.encode("a small dog")), words.exact("a large dog")
    ('a small dog', False)
    """
    require_vocabulary(kind, vocab_size)
    return KINDS[kind].train(_without_surrogates(texts), vocab_size)


def require_vocabulary(kind: str, vocab_size: int) -> None:
    """Raise :class:`InputError` unless a tokenizer of this kind can have at most ``vocab_size`` ids."""
    if kind not in KINDS:
        raise InputError(f"train_tokenizer: kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if words := VOCABULARY(vocab_size):
        raise InputError(
            f"train_tokenizer: vocab_size must be {words}; got vocab_size={vocab_size}"
        )
    least = RESERVED + (1 if kind == "words" else BYTES)
    if kind != "bytes" and vocab_size < least:
        raise InputError(
            f"train_tokenizer: {kind} needs vocab_size >= {least}; got vocab_size={vocab_size}"
        )


def _without_surrogates(texts: Iterable[str]) -> Iterator[str]:
    """Return the texts again; InputError for a lone surrogate, which no vocabulary can store."""
    for text in texts:
        utf8(text)
        yield text


def require_strings(name: str, values: object) -> None:
    """Raise InputError unless ``values`` is a list or tuple of distinct strings."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise InputError(f"tokenizer: {name} must be a list of strings; got {str(values)[:60]}")
    if len(set(values)) < len(values):
        repeated = len(values) - len(set(values))
        raise InputError(f"tokenizer: {name} must differ from each other; {repeated} repeat")


def tokenizer_from_json(state: dict[str, Any]) -> Tokenizer:
    """Rebuild a tokenizer from :meth:`Tokenizer.to_json`.

    :class:`InputError` when the state is no tokenizer.
    """
    try:
        return KINDS[state["kind"]](
            **{name: value for name, value in state.items() if name != "kind"}
        )
    except Exception as error:  # a damaged file fails in as many ways as it has fields
        reason = f"{type(error).__name__}: {error}"[:200]
        raise InputError(
            f"tokenizer_from_json: not a tokenizer ({reason}); restore the file the run wrote"
        ) from error


def pad(sequences: Sequence[Sequence[int]]) -> Int64[Tensor, "batch T"]:
    """Append one END to every text's ids and fills with PAD on the right.

    :class:`InputError` for an empty batch.
    """
    if not sequences:
        raise InputError("pad: needs at least one text; got none")
    return pad_sequence(
        [torch.tensor([*ids, END]) for ids in sequences], batch_first=True, padding_value=PAD
    )


def utf8(text: str) -> bytes:
    """Return the UTF-8 bytes.

    :class:`InputError` names a lone surrogate, the one thing UTF-8 cannot write.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[max(error.start - 20, 0) : error.end]
        raise InputError(
            f"text: half of a surrogate pair: UTF-8 has no lone surrogate; got {near!r}; write U+FFFD in its place"
        ) from error


def most_frequent(pieces: Iterable[Iterable[str]], size: int) -> list[str]:
    """Return the ``size`` most frequent pieces, ties by code point.

    :class:`InputError` when there are none.
    """
    counts = Counter[str]()
    for some in pieces:
        counts.update(some)
    if not counts:
        raise InputError(
            "train_tokenizer: needs at least one text with a character in it; got none"
        )
    return sorted(counts, key=lambda piece: (-counts[piece], piece))[:size]


def sample_evenly(texts: Iterable[str], characters: int) -> list[str]:
    """Keep every k-th text, k the least power of two with which the sample stays within ``characters``."""
    kept = list[str]()
    size = 0
    stride = 1
    for i, text in enumerate(texts):
        if i % stride == 0:
            kept.append(text)
            size += len(text)
        while size > characters and len(kept) > 1:
            kept = kept[::2]
            stride = 2 * stride
            size = sum(map(len, kept))
    return kept
