r"""Texts as a code: :math:`p(x_t \mid z, x_{<t})`, token by token, by the decoder's cached step.

Writer and reader run the same steps on the same rows: a text that has ended, and a row of padding,
takes padding as input until the tile ends. A text that is longer than the model's is coded in
pieces.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from density.coding.ans import Intervals, Stack, concatenate, frequencies, intervals
from univae.errors import InputError
from univae.text.special import END, PAD, START
from univae.text.tokenizers import pad
from univae.vae.model import UniVAE

__all__ = ["TextCode", "join_pieces", "pieces"]

Ids: TypeAlias = list[int]  # a text's tokens, without its end


class TextCode:
    """Code lists of tokens by a UniVAE: an :class:`density.coding.data_code.Emission`.

    The first texts are coded as if their latent were the prior's mode.
    """

    def __init__(self, model: UniVAE, tile: int) -> None:
        if not model.config.family.codable:
            raise InputError(
                "compress: needs a model whose latents are Gaussian, for they are coded one "
                f"coordinate at a time; got latent={model.config.latent}; "
                "train with --latent gaussian"
            )
        self.model = model
        self.size = tile
        self.longest = model.config.max_length
        prior = model.prior()
        mode = prior.modes() if hasattr(prior, "modes") else prior.mode
        self.mode = mode.expand(tile, *mode.shape[-2:]).contiguous()

    def tile(self, rows: Sequence[Ids] | None) -> Tensor:
        """Return texts padded to a whole tile; a row of padding is an empty text."""
        texts = list(rows or [])
        empty: list[Ids] = [[]] * (self.size - len(texts))
        return pad([*texts, *empty])

    def rows(self, x: Tensor, count: int) -> list[Ids]:
        """Return the texts of a tile."""
        return [row[: row.index(END)] for row in x[:count].tolist()]

    def join(self, parts: Sequence[Sequence[Ids]]) -> list[Ids]:
        """Return texts one after the other."""
        return [ids for part in parts for ids in part]

    def content(self, rows: Sequence[Ids]) -> bytes:
        """Return the tokens, ends included, as little-endian int32, for a checksum."""
        return b"".join(np.array([*ids, END], "<i4").tobytes() for ids in rows)

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        """Return the intervals of the tokens of x in the tables of p(x | z)."""
        step = self.model.decoder(z, self.longest)
        ids = x.numpy()
        tokens = torch.full((self.size,), START)
        parts = []
        for t in range(x.shape[1]):
            rows = np.flatnonzero(ids[:count, t] != PAD)
            if len(rows):
                parts.append(intervals(_table(step(tokens), rows), ids[rows, t], rows))
            tokens = x[:, t]
        return concatenate(parts)

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
        """Pop a tile whose :meth:`intervals` were pushed."""
        step = self.model.decoder(z, self.longest)
        x = torch.full((self.size, self.longest), PAD)
        x[count:, 0] = END
        tokens = torch.full((self.size,), START)
        rows = np.arange(count)
        for t in range(self.longest):
            symbols = stack.pop(_table(step(tokens), rows))
            x[torch.from_numpy(rows), t] = torch.from_numpy(symbols).long()
            tokens = x[:, t]
            rows = rows[symbols != END]
            if not len(rows):
                return x[:, : t + 1].contiguous()
        raise ValueError("a text does not end")

    def push_plain(self, stack: Stack, rows: Sequence[Ids]) -> None:
        """Push texts with the prior's mode as latent."""
        for start in reversed(range(0, len(rows), self.size)):
            chunk = rows[start : start + self.size]
            stack.push(self.intervals(self.mode, self.tile(chunk), len(chunk)))

    def pop_plain(self, stack: Stack, count: int) -> list[Ids]:
        """Pop the texts that :meth:`push_plain` pushed."""
        parts = []
        for start in range(0, count, self.size):
            size = min(self.size, count - start)
            parts.append(self.rows(self.pop(stack, self.mode, size), size))
        return self.join(parts)


def _table(logits: Tensor, rows: np.ndarray) -> np.ndarray:
    """Return the frequencies of the next token of some rows: used in both directions."""
    return frequencies(logits.softmax(-1).numpy()[rows])


def pieces(texts: Sequence[Ids], longest: int) -> tuple[list[Ids], list[tuple[int, int]]]:
    """Return texts cut into pieces of fewer than ``longest`` tokens, which leaves room for an end.

    Beside the pieces, (text, number of pieces) of those texts that were cut.
    """
    room = longest - 1
    all_pieces: list[Ids] = []
    cut: list[tuple[int, int]] = []
    for i, ids in enumerate(texts):
        parts = [ids[start : start + room] for start in range(0, max(1, len(ids)), room)]
        all_pieces += parts
        if len(parts) > 1:
            cut.append((i, len(parts)))
    return all_pieces, cut


def join_pieces(all_pieces: Sequence[Ids], cut: Sequence[tuple[int, int]]) -> list[Ids]:
    """Return the texts that :func:`pieces` cut."""
    texts: list[Ids] = []
    counts = dict(cut)
    start = 0
    while start < len(all_pieces):
        count = counts.get(len(texts), 1)
        parts = all_pieces[start : start + count]
        texts.append([token for part in parts for token in part])
        start += count
    return texts
