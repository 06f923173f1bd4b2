r"""Texts as a code: :math:`p(x_t \mid z, x_{<t})`, token by token, by the decoder's cached step.

Encoder and decoder compute the same steps on the same rows: a text that has ended, and a row of
padding, has padding as input until the end of the tile. A text that is too long for the model is
coded in pieces.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from density.coding.ans import Intervals, Stack, concatenate, intervals
from density.coding.finite import naming_rows, row_frequencies
from univae.errors import InputError
from univae.text.special import END, PAD, START
from univae.text.tokenizers import pad
from univae.vae.model import UniVAE

__all__ = ["TextCode", "join_pieces", "pieces"]

Ids: TypeAlias = list[int]  # the tokens of a text, without its end token


class TextCode:
    """Codes lists of tokens by a UniVAE: an :class:`density.coding.data_code.Emission`.

    The first texts of a file are coded with the mode of the prior as their latent.
    """

    def __init__(self, model: UniVAE, tile: int) -> None:
        if not model.config.family.codable:
            raise InputError(
                "compress: needs a model whose latents are Gaussian, because they are coded one "
                f"coordinate at a time; got latent={model.config.latent}; "
                "train with --latent gaussian"
            )
        self.model = model
        self.size = tile
        self.longest = model.config.max_length
        self.dtype = np.min_scalar_type(model.config.vocab_size - 1).newbyteorder("<")
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
        """Return the texts of all tiles in one list."""
        return [ids for tile in parts for ids in tile]

    def content(self, rows: Sequence[Ids]) -> bytes:
        """Return the tokens, end tokens included, as little-endian int32, for a checksum."""
        return b"".join(np.array([*ids, END], "<i4").tobytes() for ids in rows)

    def compact(self, rows: Sequence[Ids]) -> bytes:
        """Return the tokens, end tokens included, in as few bytes as the vocabulary needs."""
        return np.array([token for ids in rows for token in [*ids, END]], self.dtype).tobytes()

    def from_compact(self, content: bytes, count: int) -> list[Ids]:
        """Return the ``count`` texts of :meth:`compact`; raise ValueError for another number."""
        tokens = np.frombuffer(content, self.dtype)
        ends = np.flatnonzero(tokens == END)
        if len(ends) != count or (count and ends[-1] != len(tokens) - 1):
            raise ValueError(f"{len(ends)} texts instead of {count}")
        texts = np.split(tokens, ends + 1)[:count]
        return [text[:-1].tolist() for text in texts]

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        """Return the intervals of the tokens of x in the tables of p(x | z)."""
        step = self.model.decoder(z, self.longest)
        ids = x.numpy()
        tokens = torch.full((self.size,), START)
        columns = []
        for t in range(x.shape[1]):
            rows = np.flatnonzero(ids[:count, t] != PAD)
            if len(rows):
                columns.append(intervals(_table(step(tokens), rows), ids[rows, t], rows))
            tokens = x[:, t]
        return concatenate(columns)

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
        raise ValueError(f"a text has no end token among its {self.longest} tokens")

    def push_plain(self, stack: Stack, rows: Sequence[Ids]) -> None:
        """Push texts with the prior's mode as latent."""
        for start in reversed(range(0, len(rows), self.size)):
            chunk = rows[start : start + self.size]
            with naming_rows(start):
                stack.push(self.intervals(self.mode, self.tile(chunk), len(chunk)))

    def pop_plain(self, stack: Stack, count: int) -> list[Ids]:
        """Pop the texts that :meth:`push_plain` pushed."""
        tiles = []
        for start in range(0, count, self.size):
            size = min(self.size, count - start)
            tiles.append(self.rows(self.pop(stack, self.mode, size), size))
        return self.join(tiles)


def _table(logits: Tensor, rows: np.ndarray) -> np.ndarray:
    """Return the frequencies of the next token of some rows, for encoder and decoder."""
    p = logits.softmax(-1).numpy()[rows]
    return row_frequencies(p, rows, "the distribution of a token")


def pieces(texts: Sequence[Ids], longest: int) -> tuple[list[Ids], list[tuple[int, int]]]:
    """Return texts cut into pieces of fewer than ``longest`` tokens, and which texts were cut.

    The second result is (text, number of pieces) for every text of several pieces.
    """
    room = longest - 1  # for the tokens before the end token
    all_pieces: list[Ids] = []
    cut: list[tuple[int, int]] = []
    for i, ids in enumerate(texts):
        starts = range(0, max(1, len(ids)), room)
        all_pieces += [ids[start : start + room] for start in starts]
        if len(starts) > 1:
            cut.append((i, len(starts)))
    return all_pieces, cut


def join_pieces(all_pieces: Sequence[Ids], cut: Sequence[tuple[int, int]]) -> list[Ids]:
    """Return the texts that :func:`pieces` cut."""
    texts: list[Ids] = []
    counts = dict(cut)
    start = 0
    while start < len(all_pieces):
        count = max(1, counts.get(len(texts), 1))
        pieces_of_text = all_pieces[start : start + count]
        texts.append([token for piece in pieces_of_text for token in piece])
        start += count
    return texts
