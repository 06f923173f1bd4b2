r"""Texts as a code: :math:`p(x \mid z) = \prod_t p(x_t \mid z, x_{<t})`, token by token, by the decoder's cached step.

Reader and writer run the same steps on the same rows: a text that has ended, and a row of padding,
is fed padding until the tile ends. A text that is longer than the model's is coded in pieces.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from density.coding.ans import Intervals, Stack, frequencies, intervals
from univae.errors import InputError
from univae.text.special import END, PAD, START
from univae.text.tokenizers import pad
from univae.vae.model import UniVAE

__all__ = ["TextCode", "join_pieces", "pieces"]

Ids = list[int]  # a text's tokens, without its end


class TextCode:
    """Codes lists of tokens by a UniVAE; an :class:`density.coding.data_code.Emission`.

    The first texts are coded as if their latent were the prior's mode.
    """

    def __init__(self, model: UniVAE, tile: int) -> None:
        if not model.config.family.independent_coordinates:
            raise InputError(
                "compress: needs a model whose latents are Gaussian, for they are coded one coordinate at a time; got "
                f"latent={model.config.latent}; train with --latent gaussian"
            )
        self.model = model
        self.size = tile
        self.longest = model.config.max_length
        prior = model.prior()
        mode = prior.modes() if hasattr(prior, "modes") else prior.mode
        self.mode = mode.expand(tile, *mode.shape[-2:]).contiguous()

    def tile(self, data: Sequence[Ids] | None) -> Tensor:
        given = list(data or [])
        return pad([*given, *[[]] * (self.size - len(given))])

    def data(self, x: Tensor, count: int) -> list[Ids]:
        return [row[: row.index(END)] for row in x[:count].tolist()]

    def join(self, parts: Sequence[Sequence[Ids]]) -> list[Ids]:
        return [ids for part in parts for ids in part]

    def content(self, data: Sequence[Ids]) -> bytes:
        return b"".join(np.array([*ids, END], "<i4").tobytes() for ids in data)

    def intervals(self, z: Tensor, x: Tensor, count: int) -> Intervals:
        step = self.model.decoder(z, self.longest)
        ids = x.numpy()
        tokens = torch.full((self.size,), START)
        found = []
        for t in range(x.shape[1]):
            rows = np.flatnonzero(ids[:count, t] != PAD)
            owned = intervals(_table(step(tokens), rows), ids[rows, t], rows) if len(rows) else None
            found += [owned] if owned else []
            tokens = x[:, t]
        return Intervals(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def pop(self, stack: Stack, z: Tensor, count: int) -> Tensor:
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

    def push_plain(self, stack: Stack, data: Sequence[Ids]) -> None:
        for start in reversed(range(0, len(data), self.size)):
            part = data[start : start + self.size]
            stack.push(self.intervals(self.mode, self.tile(part), len(part)))

    def pop_plain(self, stack: Stack, count: int) -> list[Ids]:
        sizes = [min(self.size, count - start) for start in range(0, count, self.size)]
        return self.join([self.data(self.pop(stack, self.mode, size), size) for size in sizes])


def _table(logits: Tensor, rows: np.ndarray) -> np.ndarray:
    """The frequencies of the next token of some rows: the one source of both directions."""
    return frequencies(logits.softmax(-1).numpy()[rows])


def pieces(texts: Sequence[Ids], longest: int) -> tuple[list[Ids], list[tuple[int, int]]]:
    """Cut texts of ``longest`` tokens or more, ends counted.

    Returns the pieces, and (text, pieces) of those cut.
    """
    room = longest - 1
    found = list[Ids]()
    cut = list[tuple[int, int]]()
    for i, ids in enumerate(texts):
        parts = [ids[start : start + room] for start in range(0, max(1, len(ids)), room)]
        found += parts
        if len(parts) > 1:
            cut.append((i, len(parts)))
    return found, cut


def join_pieces(found: Sequence[Ids], cut: Sequence[tuple[int, int]]) -> list[Ids]:
    """The inverse of :func:`pieces`."""
    texts = list[Ids]()
    at = 0
    counts = dict(cut)
    while at < len(found):
        count = counts.get(len(texts), 1)
        texts.append([token for part in found[at : at + count] for token in part])
        at += count
    return texts
