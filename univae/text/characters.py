"""Tokenizers of characters and of bytes, which encode every text without loss."""

from collections.abc import Iterable

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.text.special import RESERVED
from univae.text.tokenizer import Tokenizer, most_frequent, utf8

__all__ = ["BYTE_VALUES", "Bytes", "Chars"]

BYTE_VALUES = 256


class Chars(Tokenizer):
    """One token for each character of a vocabulary, and UTF-8 bytes for any other.

    Ids: 3 reserved, 256 bytes, then the characters in the order of ``characters``.
    """

    kind = "chars"
    summary = "characters, the rare ones as bytes; for Chinese"
    least_vocabulary = RESERVED + BYTE_VALUES

    def __init__(self, characters: str = "") -> None:
        if not isinstance(characters, str):
            type_name = type(characters).__name__
            raise InputError(f"tokenizer: characters must be one string; got {type_name}")
        self.characters = characters
        first = RESERVED + BYTE_VALUES
        self.vocab_size = first + len(characters)
        self._utf8_of_token = [bytes([byte]) for byte in range(BYTE_VALUES)]
        self._utf8_of_token += [utf8(character) for character in characters]
        self._ids = {character: [first + i] for i, character in enumerate(characters)}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Keep the most frequent characters."""
        return cls("".join(most_frequent(texts, vocab_size - RESERVED - BYTE_VALUES)))

    def encode(self, text: str) -> list[int]:
        """Return one id per character of the vocabulary, one per byte for other characters."""
        ids = list[int]()
        for character in text:
            ids += self._ids.get(character) or [RESERVED + byte for byte in utf8(character)]
        return ids

    def to_json(self) -> JsonObject:
        """Return the kind and the characters of the vocabulary."""
        return {"kind": self.kind, "characters": self.characters}

    def _join(self, tokens: list[int]) -> str:
        encoded = b"".join([self._utf8_of_token[token] for token in tokens])
        return encoded.decode("utf-8", errors="replace")


class Bytes(Chars):
    """UTF-8 bytes: id = byte + 3, always 259 ids."""

    kind = "bytes"
    summary = "UTF-8 bytes, without training"
    least_vocabulary = 0

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Return the tokenizer; reads no text."""
        return cls()

    def encode(self, text: str) -> list[int]:
        """Return one id per byte."""
        return [RESERVED + byte for byte in utf8(text)]
