"""BART-like noise on the words of a text: all tokens of a word are masked or replaced together.

A word is a run of tokens: of letters and digits between white space or punctuation, or one token of
a tokenizer whose tokens are words. Scripts without spaces, such as Chinese, have no word segmenter
here: every character counts as a word.

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

# Kinds of noise on the tokens of a word; 0: the word was not chosen.
MASK = 1
KEEP = 2
RANDOM = 3

# Effect of the first character of a token on word boundaries.
_STARTS_WORD = 0
_JOINS_LETTER = 1
_CONTINUES = 2

# first code point of CJK radicals: from here on scripts are written without spaces
_WITHOUT_SPACES = 0x2E80

_REPLACEMENT = "\ufffd"  # the decoding of incomplete UTF-8 characters


@dataclass(frozen=True)
class Noise:
    """Probabilities of noise: of a text to be noised, and of each word of such a text.

    Raises:
        InputError: a value is no probability, or ``mask + keep + replace`` exceeds 1.
    """

    rows: float = 0.5
    mask: float = 0.12
    keep: float = 0.015
    replace: float = 0.015

    def __post_init__(self) -> None:
        word_probabilities = (self.mask, self.keep, self.replace)
        in_range = all(0 <= p <= 1 for p in (self.rows, *word_probabilities))
        if not in_range or sum(word_probabilities) > 1:
            raise InputError(
                "Noise: rows lies in [0, 1], and so do mask, keep and replace and their sum; "
                f"got {self}; lower them"
            )


class WordNoise:
    """Adds noise to padded ids (B, T).

    A masked word has the id ``mask`` in place of each token, a replaced word random ids. These are
    uniform over the tokenizer's regular tokens, without padding, start, end and mask. All random
    numbers come from PyTorch's global generator.
    """

    def __init__(self, tokenizer: Tokenizer, mask: int, noise: Noise | None = None) -> None:
        self.noise = noise or Noise()
        self.mask = mask
        self.vocab_size = tokenizer.vocab_size
        self.first, self.ends_with_letter = _token_borders(tokenizer)

    def __call__(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return the noised texts; lengths, ends and padding stay."""
        kinds = self.kinds(ids)
        noised_rows = torch.rand(len(ids), 1, device=ids.device) < self.noise.rows
        random = torch.randint(RESERVED, self.vocab_size, ids.shape, device=ids.device)
        noised = ids.masked_fill(kinds == MASK, self.mask)
        noised = torch.where(kinds == RANDOM, random, noised)
        return torch.where(noised_rows, noised, ids)

    def kinds(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Draw the kind of noise of every token as if its text were noised; one kind per word."""
        words = self.words(ids)
        u = torch.rand(ids.shape, device=ids.device).gather(1, words.clamp_min(0))
        n = self.noise
        thresholds = [n.mask, n.mask + n.keep, n.mask + n.keep + n.replace]
        edges = torch.tensor(thresholds, device=u.device, dtype=u.dtype)
        kinds = (torch.bucketize(u, edges, right=True) + 1) % (RANDOM + 1)
        return kinds.masked_fill(words < 0, 0)

    def words(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        """Return the index of every token's word in its text; -1 for start, end and padding."""
        inner = (ids != PAD) & (ids != START) & (ids != END)
        index = (self._starts_word(ids) & inner).cumsum(1) - 1
        return index.clamp_min(0).masked_fill(~inner, -1)

    def _starts_word(self, ids: Tensor) -> Bool[Tensor, "batch length"]:
        first = self.first.to(ids.device)[ids]
        ends_with_letter = self.ends_with_letter.to(ids.device)[ids]
        after_letter = torch.zeros_like(ends_with_letter)
        after_letter[:, 1:] = ends_with_letter[:, :-1]
        return (first == _STARTS_WORD) | ((first == _JOINS_LETTER) & ~after_letter)


def _token_borders(tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Return the effect of each id on word boundaries, and whether it ends with a letter."""
    ids = tokenizer.vocab_size + 1  # the last one is the mask, which is a word
    first = np.full(ids, _STARTS_WORD)
    ends_with_letter = np.zeros(ids, dtype=bool)
    if not tokenizer.splits_words:
        return torch.from_numpy(first), torch.from_numpy(ends_with_letter)

    for token in range(RESERVED, tokenizer.vocab_size):
        continues = tokenizer.continues_word(token)
        if continues is not None:
            first[token] = _CONTINUES if continues else _STARTS_WORD
            continue
        text = tokenizer.decode([token])
        if not text or text[0] == _REPLACEMENT:
            first[token] = _CONTINUES
        elif _is_spaced_letter(text[0]):
            first[token] = _JOINS_LETTER
        if text:
            ends_with_letter[token] = _is_spaced_letter(text[-1]) or text[-1] == _REPLACEMENT
    return torch.from_numpy(first), torch.from_numpy(ends_with_letter)


def _is_spaced_letter(character: str) -> bool:
    """Return whether it is a letter or digit of a script that separates words by spaces."""
    return character.isalnum() and ord(character) < _WITHOUT_SPACES
