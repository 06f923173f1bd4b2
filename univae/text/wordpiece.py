"""Tokenizers of published BERT and RoFormer models: WordPiece, alone and behind Jieba.

Both split words into the longest pieces of a vocabulary; a piece inside a word begins with ``##``.
Texts are normalised first, so that case, accents and runs of white space may be lost.

References:
    Google's Neural Machine Translation System (Wu et al., 2016), https://arxiv.org/abs/1609.08144
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Protocol, cast, runtime_checkable

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.interruptible import call_interruptibly
from univae.text.bpe import TRAINING_SAMPLE, sample_evenly
from univae.text.special import RESERVED
from univae.text.tokenizer import Tokenizer, most_frequent, require_strings, utf8

__all__ = ["UNKNOWN_PIECE", "Jieba", "WordPiece"]

UNKNOWN_PIECE = "[UNK]"
INSIDE = "##"  # prefix of a piece that continues a word

# Scripts without spaces between words: kana and Chinese characters, and their punctuation.
UNSPACED = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
BEFORE_CLOSING = re.compile(r" ([.,?!;:%)\]}])")
AFTER_OPENING = re.compile(r"([(\[{]) ")
AROUND_APOSTROPHE = re.compile(r"(?<=\w) ?' ?(?=\w)")


class WordPiece(Tokenizer):
    """Pieces of words, as in BERT; Chinese characters are words of their own.

    A word that no pieces make up is ``[UNK]``.

    Args:
        tokens: the pieces in the order of their ids, ``[UNK]`` among them.
        lowercase: whether texts are converted to lower case.
        strip_accents: whether accents are removed.

    >>> pieces = WordPiece(["[UNK]", "play", "##ing", "!", "好"])
    >>> pieces.encode("Playing 好!"), pieces.decode(pieces.encode("Playing 好!"))
    ([4, 5, 7, 6], 'playing好!')
    """

    kind = "wordpiece"
    summary = "pieces of words in lower case, as in BERT"
    least_vocabulary = RESERVED + 1
    lossless = False

    # whether Chinese characters are separated before words are found
    _splits_characters: ClassVar[bool] = True

    def __init__(
        self, tokens: Sequence[str], *, lowercase: bool = True, strip_accents: bool = True
    ) -> None:
        require_strings("tokens", tokens)
        for name, value in {"lowercase": lowercase, "strip_accents": strip_accents}.items():
            if not isinstance(value, bool):
                raise InputError(f"tokenizer: {name} must be true or false; got {value!r:.60}")
        if UNKNOWN_PIECE not in tokens:
            raise InputError(
                f"tokenizer: tokens must contain {UNKNOWN_PIECE}; got {len(tokens)} without it; "
                "add it"
            )
        self.tokens = list(tokens)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.vocab_size = RESERVED + len(tokens)
        self._vocabulary = {token: i for i, token in enumerate(tokens)}
        self._model = models.WordPiece(self._vocabulary, unk_token=UNKNOWN_PIECE)
        self._normalizer = normalizers.BertNormalizer(
            handle_chinese_chars=self._splits_characters,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
        self._pieces = _pieces_of(self._model, self._normalizer)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Keep the pieces that make up an even sample of 20 million characters most often.

        Candidates are the characters, and the merges of byte-pair encoding at the beginning and
        inside of words.
        """
        sample = sample_evenly(texts, TRAINING_SAMPLE)
        most_frequent((text[:1] for text in sample), 1)  # raises where there is no character
        size = vocab_size - RESERVED - 1
        merges = _pieces_of(models.BPE(), cls([UNKNOWN_PIECE])._normalizer)
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False)
        call_interruptibly(lambda: merges.train_from_iterator(sample, trainer=trainer))
        parts = sorted(merges.get_vocab())
        inside = [INSIDE + part for part in parts]
        candidates = cls(list(dict.fromkeys([UNKNOWN_PIECE, *parts, *inside])))
        if size == 0:
            return cls([UNKNOWN_PIECE])
        return cls([UNKNOWN_PIECE, *most_frequent(map(candidates._frequent, sample), size)])

    def encode(self, text: str) -> list[int]:
        """Return the ids of the pieces."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return :meth:`encode` of every text."""
        utf8("".join(texts))  # the library's error for a lone surrogate does not show it
        encodings = self._pieces.encode_batch(list(texts), add_special_tokens=False)
        return [[RESERVED + piece for piece in encoding.ids] for encoding in encodings]

    def unknown(self, text: str) -> int:
        """Return the number of words, separated by white space, with an unknown part."""
        unknown = RESERVED + self._vocabulary[UNKNOWN_PIECE]
        return sum(unknown in ids for ids in self.encode_batch(text.split()))

    def continues_word(self, token: int) -> bool:
        """Return whether a regular id continues the word before it."""
        return self.tokens[token - RESERVED].startswith(INSIDE)

    def to_json(self) -> JsonObject:
        """Return the kind, the pieces in the order of their ids, and the normalisation."""
        return {
            "kind": self.kind,
            "tokens": self.tokens,
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
        }

    def _frequent(self, text: str) -> Iterator[str]:
        """Yield the pieces of a text, and the characters of those with several."""
        for token in self.encode(text):
            piece = self.tokens[token - RESERVED]
            if piece == UNKNOWN_PIECE:
                continue
            yield piece
            characters = piece.removeprefix(INSIDE)
            if len(characters) > 1:
                yield piece[: -len(characters) + 1]  # its first character
                yield from (INSIDE + character for character in characters[1:])

    def _join(self, tokens: list[int]) -> str:
        text = ""
        for token in tokens:
            piece = self.tokens[token]
            if self.continues_word(token + RESERVED) and text:
                text += piece.removeprefix(INSIDE)
            else:
                text += _gap(text, piece) + piece
        text = BEFORE_CLOSING.sub(r"\1", text)
        text = AFTER_OPENING.sub(r"\1", text)
        return AROUND_APOSTROPHE.sub("'", text)


class Jieba(WordPiece):
    """Chinese words as Jieba finds them; one outside the vocabulary is split by WordPiece.

    It is the tokenizer of the first published RoFormers. It needs the package ``rjieba``.

    Raises:
        InputError: ``rjieba`` is not installed.
    """

    kind = "jieba"
    summary = "Chinese words, as in RoFormer; needs univae[hf]"

    _splits_characters = False

    def __init__(
        self, tokens: Sequence[str], *, lowercase: bool = True, strip_accents: bool = True
    ) -> None:
        super().__init__(tokens, lowercase=lowercase, strip_accents=strip_accents)
        self._words = _jieba()
        self._characters = normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
        )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Keep the most frequent words and characters, in lower case, and ``[UNK]``."""
        words = cls([UNKNOWN_PIECE])
        size = vocab_size - RESERVED - 1
        frequent = most_frequent(map(words._candidates, texts), max(size, 1))
        return cls([UNKNOWN_PIECE, *frequent[:size]])

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return :meth:`encode` of every text."""
        utf8("".join(texts))
        return [[RESERVED + piece for piece in self._ids(text)] for text in texts]

    def _ids(self, text: str) -> Iterator[int]:
        for word in self._cut(text):
            if word in self._vocabulary:
                yield self._vocabulary[word]
                continue
            for part in self._characters.normalize_str(word).split():
                for piece in self._model.tokenize(part):
                    yield piece.id

    def _candidates(self, text: str) -> Iterator[str]:
        """Yield the words of a text, and the characters of those with several."""
        for word in self._cut(text):
            if word.isspace() or word == UNKNOWN_PIECE:
                continue
            yield word
            if len(word) > 1:
                yield from word

    def _cut(self, text: str) -> list[str]:
        words = []
        for i, part in enumerate(text.split(UNKNOWN_PIECE)):
            if i:
                words.append(UNKNOWN_PIECE)
            # without the hidden Markov model for words that its dictionary lacks, as published
            words += self._words.cut(self._normalizer.normalize_str(part), hmm=False)
        return words


@runtime_checkable
class _Cutter(Protocol):
    """The module ``rjieba``."""

    def cut(self, text: str, *, hmm: bool) -> list[str]:
        """Return the words of a text, white space included."""


def _jieba() -> _Cutter:
    try:
        return cast("_Cutter", importlib.import_module("rjieba"))
    except ImportError as error:
        raise InputError("tokenizer jieba needs the package rjieba; install univae[hf]") from error


def _pieces_of(model: models.Model, normalizer: normalizers.Normalizer) -> tokenizers.Tokenizer:
    pieces = tokenizers.Tokenizer(model)
    pieces.normalizer = normalizer
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if isinstance(model, models.WordPiece):  # as published: the token is one in a text, too
        pieces.add_special_tokens([UNKNOWN_PIECE])
    return pieces


def _gap(text: str, piece: str) -> str:
    """Return a space where one stands between the end of a text and a piece."""
    if not text or UNSPACED.match(text[-1]) or UNSPACED.match(piece):
        return ""
    return " "
