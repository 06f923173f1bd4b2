"""A tokenizer of byte-level BPE: bytes, and merges of the most frequent pairs of tokens.

References:
    Neural Machine Translation of Rare Words with Subword Units (Sennrich et al., 2016),
    https://arxiv.org/abs/1508.07909
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.interruptible import call_interruptibly
from univae.text.characters import BYTE_VALUES
from univae.text.special import RESERVED
from univae.text.tokenizer import Tokenizer, most_frequent, require_strings, utf8

__all__ = ["BPE", "pieces", "sample_evenly"]

# Characters. The memory of training grows with the text, while the merges hardly change.
TRAINING_SAMPLE = 20_000_000

# Characters encoded at once. The library takes about 250 bytes for each.
PIECE = 2**18
# Single spaces between words: no token goes on over the end of the word before.
WORD_ENDS = re.compile(r"(?<=\S) (?=\S)")


class BPE(Tokenizer):
    """Byte-level BPE: the id of token i is i + 3, and there are no other special tokens."""

    kind = "bpe"
    summary = "byte-level BPE"
    least_vocabulary = RESERVED + BYTE_VALUES
    text_prefix = " "

    def __init__(self, tokens: Sequence[str], merges: Sequence[Sequence[str]]) -> None:
        require_strings("tokens", tokens)
        self.tokens = list(tokens)
        self.merges = [(left, right) for left, right in merges]
        self.vocab_size = RESERVED + len(tokens)
        vocabulary = {token: i for i, token in enumerate(tokens)}
        for left, right in self.merges:
            if not {left, right, left + right} <= vocabulary.keys():
                raise InputError(
                    "tokenizer: merges must join two tokens to a third one; "
                    f"got {left!r} and {right!r}"
                )
        self._bpe = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=self.merges))
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._bpe.decoder = decoders.ByteLevel()
        # encode_batch_fast skips the offsets into the text, which are not used here; versions of
        # `tokenizers` below 0.20 lack it.
        self._encode_batch = getattr(self._bpe, "encode_batch_fast", self._bpe.encode_batch)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges from an even sample of 20 million characters."""
        sample = sample_evenly(texts, TRAINING_SAMPLE)
        most_frequent((text[:1] for text in sample), 1)  # raises where there is no character
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - RESERVED, initial_alphabet=alphabet, show_progress=False
        )
        bpe = cls(alphabet, [])._bpe
        call_interruptibly(lambda: bpe.train_from_iterator(sample, trainer=trainer))

        vocabulary = bpe.get_vocab()
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        merges = json.loads(bpe.to_str())["model"]["merges"]
        # Versions below 0.20 write a merge as "left right"; byte-level tokens hold no space.
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        return cls(tokens, pairs)

    def encode(self, text: str) -> list[int]:
        """Return the ids of the merged tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return :meth:`encode` of every text, computed in one call."""
        utf8("".join(texts))  # the library's error for a lone surrogate does not show it
        if any(len(text) > PIECE for text in texts):
            return [self._encode_pieces(text) for text in texts]
        encodings = self._encode_batch(list(texts))
        return [[RESERVED + token for token in encoding.ids] for encoding in encodings]

    def _encode_pieces(self, text: str) -> list[int]:
        """Return the ids of a long text, whose pieces are encoded one after the other."""
        ids = list[int]()
        for piece in pieces(text, PIECE):
            for encoding in self._encode_batch([piece]):
                ids += [RESERVED + token for token in encoding.ids]
        return ids

    def to_json(self) -> JsonObject:
        """Return the kind, the tokens in the order of their ids, and the merges by rank."""
        merges = [list(pair) for pair in self.merges]
        return {"kind": self.kind, "tokens": self.tokens, "merges": merges}

    def _join(self, tokens: list[int]) -> str:
        return self._bpe.decode(tokens)


def pieces(text: str, most: int) -> Iterator[str]:
    """Yield a text in pieces of at most ``most`` characters.

    They end where words do, so that they have the tokens that the whole text has, unless one word
    is longer than a piece.
    """
    start = 0
    while len(text) - start > most:
        stop = start + most
        for end in WORD_ENDS.finditer(text, start + 1, stop):
            stop = end.start()
        yield text[start:stop]
        start = stop
    yield text[start:]


def sample_evenly(texts: Iterable[str], characters: int) -> list[str]:
    """Return every k-th text, k the least power of two with at most ``characters`` in all.

    The result has at least one text, of any length.
    """
    sample = list[str]()
    size = 0
    stride = 1
    for i, text in enumerate(texts):
        if i % stride == 0:
            sample.append(text)
            size += len(text)
        while size > characters and len(sample) > 1:
            sample = sample[::2]
            stride = 2 * stride
            size = sum(map(len, sample))
    return sample
