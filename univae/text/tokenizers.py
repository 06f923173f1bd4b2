"""The registry of tokenizers; training and loading by the name of their kind.

Bytes, characters and BPE contain all 256 byte values, so that ``decode(encode(text)) == text`` for
every text; words do so for texts of words in their vocabulary.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.registry import lookup
from univae.rules import at_least
from univae.text.bpe import BPE
from univae.text.characters import Bytes, Chars
from univae.text.padding import pad
from univae.text.tokenizer import Tokenizer, without_surrogates
from univae.text.wordpiece import Jieba, WordPiece
from univae.text.words import Words

__all__ = [
    "KINDS",
    "TOKENIZERS",
    "VOCABULARY",
    "Tokenizer",
    "TokenizerName",
    "pad",
    "require_vocabulary",
    "tokenizer_from_json",
    "train_tokenizer",
]

TOKENIZERS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (BPE, Words, Chars, Bytes, WordPiece, Jieba)
}

# the same rows from the simplest to the most complex
KINDS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (Bytes, Chars, Words, BPE, WordPiece, Jieba)
}

if TYPE_CHECKING:
    TokenizerName: TypeAlias = str
else:
    TokenizerName = Literal[tuple(TOKENIZERS)]

# ids of a tokenizer; the BPE trainer aborts the process for much larger vocabularies
VOCABULARY = at_least(1, 2**20)

# characters of an exception's text in a message
LONGEST_REASON = 200


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int = 8192) -> Tokenizer:
    """Build a tokenizer of at most ``vocab_size`` ids from one pass over ``texts``.

    The three reserved ids count. ``bytes`` always has 259 ids and reads no text; ``bpe`` learns
    from an even sample of 20 million characters.

    Raises:
        InputError: an unknown kind, a vocabulary too small for the kind, or no text.

    >>> words = train_tokenizer("words", ["a small cat", "a dog"], vocab_size=100)
    >>> words.decode(words.encode("a small dog")), words.exact("a large dog")
    ('a small dog', False)
    """
    require_vocabulary(kind, vocab_size)
    return TOKENIZERS[kind].train(without_surrogates(texts), vocab_size)


def require_vocabulary(kind: str, vocab_size: int) -> None:
    """Raise :class:`InputError` unless ``vocab_size`` ids are enough for this kind."""
    least = lookup(TOKENIZERS, kind, "tokenizer").least_vocabulary
    rule = VOCABULARY(vocab_size)
    if rule:
        raise InputError(f"tokenizer: vocab_size must be {rule}; got vocab_size={vocab_size}")
    if vocab_size < least:
        raise InputError(
            f"tokenizer: {kind} needs vocab_size >= {least}; got vocab_size={vocab_size}"
        )


def tokenizer_from_json(state: JsonObject) -> Tokenizer:
    """Rebuild a tokenizer from :meth:`Tokenizer.to_json`.

    Raises:
        InputError: the state is not that of a tokenizer.
    """
    try:
        arguments = {name: value for name, value in state.items() if name != "kind"}
        return TOKENIZERS[state["kind"]](**arguments)
    except Exception as error:  # the exception depends on which value is damaged, and how
        reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        raise InputError(
            f"not a tokenizer ({reason}); restore the tokenizer.json that the run wrote"
        ) from error
