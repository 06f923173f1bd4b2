"""BART-like noise on the words of a text: masked, kept or replaced, a word as a whole.

A word is a run of tokens: for BPE and Latin letters what white space or punctuation parts, for the
tokenizer of words one token. Chinese has no such marks; without a word segmenter every character
counts as a word of its own.

References:
    BART (Lewis et al., 2019), https://arxiv.org/abs/1910.13461
    RoFormer-Sim (Su, 2021), https://kexue.fm/archives/8454, whose probabilities are the defaults
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from univae.errors import InputError
from univae.text.special import END, PAD, RESERVED, START
from univae.text.tokenizers import Tokenizer

__all__ = ["KEEP", "MASK", "RANDOM", "Noise", "WordNoise"]

MASK, KEEP, RANDOM = 1, 2, 3  # what happens to a chosen word; 0: it was not chosen
# a token's first character: opens a word, goes on after a letter, goes on always
_OPENS = 0
_LETTER = 1
_INSIDE = 2


@dataclass(frozen=True)
class Noise:
    """The share of texts that are noised, and of the words in them that are masked, chosen and kept, and replaced.

    Raises:
        InputError: if a share is no probability, or those of the words exceed 1 together.
    """

    rows: float = 0.5
    mask: float = 0.12
    keep: float = 0.015
    replace: float = 0.015

    def __post_init__(self) -> None:
        shares = (self.rows, self.mask, self.keep, self.replace)
        if not all(0 <= share <= 1 for share in shares) or sum(shares[1:]) > 1:
            raise InputError(
                f"Noise: rows lies in [0, 1], and so do mask, keep and replace and their sum; got {self}; lower them"
            )


class WordNoise:
    """Noises padded ids (B, T); ``mask`` is the id that hides a token, and a replaced word gets own tokens at random.

    Random ids are uniform over the tokenizer's own tokens: never padding, start, end or mask. All
    draws come from PyTorch's global generator.
    """

    def __init__(self, tokenizer: Tokenizer, mask: int, noise: Noise | None = None) -> None:
        self.noise = noise or Noise()
        self.mask = mask
        self.vocab_size = tokenizer.vocab_size
        self.first, self.letter_last = _edges(tokenizer)

    def __call__(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return the noised texts; lengths, ends and padding stay."""
        kinds = self.kinds(ids)
        noisy = torch.rand(len(ids), 1, device=ids.device) < self.noise.rows
        random = torch.randint(RESERVED, self.vocab_size, ids.shape, device=ids.device)
        changed = ids.masked_fill(kinds == MASK, self.mask)
        return torch.where(noisy, torch.where(kinds == RANDOM, random, changed), ids)

    def kinds(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Draw what happens to each word of each text, were the text noised: one draw a word, on all its tokens."""
        n = self.noise
        words = self.words(ids)
        r = torch.rand(ids.shape, device=ids.device).gather(1, words.clamp_min(0))
        edges = torch.tensor(
            [n.mask, n.mask + n.keep, n.mask + n.keep + n.replace], device=r.device, dtype=r.dtype
        )
        kinds = (torch.bucketize(r, edges, right=True) + 1) % (RANDOM + 1)
        return kinds.masked_fill(words < 0, 0)

    def words(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Numbers the word of every token, from 0 in each text; -1 for start, end and padding."""
        inner = (ids != PAD) & (ids != START) & (ids != END)
        number = self._opens(ids).masked_fill(~inner, False).cumsum(1) - 1
        return number.clamp_min(0).masked_fill(~inner, -1)

    def _opens(self, ids: Tensor) -> Bool[Tensor, "batch length"]:
        first = self.first.to(ids.device)[ids]
        letter_last = self.letter_last.to(ids.device)[ids]
        after_letter = torch.zeros_like(letter_last)
        after_letter[:, 1:] = letter_last[:, :-1]
        return (first == _OPENS) | ((first == _LETTER) & ~after_letter)


def _edges(tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """How each id's text begins, and whether it ends with a letter that a following letter joins."""
    first = np.full(tokenizer.vocab_size + 1, _OPENS)  # one more: the mask is a word
    letter_last = np.zeros(tokenizer.vocab_size + 1, dtype=bool)
    if tokenizer.kind != "words":
        for token in range(RESERVED, tokenizer.vocab_size):
            text = tokenizer.decode([token])
            if not text or text[0] == "\ufffd":  # bytes from inside a character
                first[token] = _INSIDE
            elif _joins(text[0]):
                first[token] = _LETTER
            letter_last[token] = bool(text) and (_joins(text[-1]) or text[-1] == "\ufffd")
    return torch.from_numpy(first), torch.from_numpy(letter_last)


def _joins(character: str) -> bool:
    """Letters and digits below the scripts that write without spaces."""
    return character.isalnum() and ord(character) < 0x2E80
