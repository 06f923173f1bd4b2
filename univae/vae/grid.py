r"""Tokens that are the cells of a picture, in raster order: where a cell stands, and what was written around it.

A text is a line and its embedding looks at one token. In a picture the cells above matter as much
as the cell before, so a decoder's row starts from all cells written within ``near`` of its own,
each through a table for its offset,

.. math:: x_{rc} = a_{rc} + \sum_{(i, j) \prec (0, 0)} E_{ij}[\text{cell}_{r + i,\, c + j}],
          \qquad \lvert i \rvert, \lvert j \rvert \le \text{near},

with a learned row :math:`a` for each place. Rotary phases stay those of the line: held-out nats of
binary 28x28 digits in patches of 2x2, after 6,000 images and with one seed, are 98.9 for the line,
99.5 with phases that turn half with the row and half with the column, 96.8 with places, 94.0 with
neighbours and 94.8 with both.

References:
    Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from univae.attention.transformer import Embedding, Feed, Norm
from univae.errors import InputError
from univae.text.special import PAD

__all__ = ["Grid", "GridEmbedding"]

BLANK = -1  # a neighbour outside the picture: the last of the cells, where padding stands


@dataclass(frozen=True)
class Grid:
    """So many rows and columns of cells.

    A decoder's row starts from those within ``near`` of its own.
    """

    rows: int
    columns: int
    near: int = 2

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.near) < 1:
            raise InputError(
                f"Grid: rows and columns must be at least 1, and near at least 1, the cell before; "
                f"got rows={self.rows}, columns={self.columns}, near={self.near}"
            )

    @property
    def cells(self) -> int:
        """Tokens of a picture."""
        return self.rows * self.columns

    def earlier(self) -> Int[Tensor, "cells offsets"]:
        """For every cell the index of each cell before it and near it, ``BLANK`` where the picture ends."""
        reach = range(-self.near, self.near + 1)
        offsets = torch.tensor([(i, j) for i in reach for j in reach if (i, j) < (0, 0)])
        cells = torch.cartesian_prod(torch.arange(self.rows), torch.arange(self.columns))
        row, column = (cells[:, None] + offsets).unbind(-1)
        outside = (row < 0) | (column < 0) | (column >= self.columns)
        return (row * self.columns + column).masked_fill(outside, BLANK)


class GridEmbedding(Embedding):
    """An :class:`univae.attention.transformer.Embedding` of the cells of a grid; see the module."""

    around: Tensor

    def __init__(
        self, vocab_size: int, width: int, grid: Grid, dropout: float = 0.0, norm: Norm = "pre"
    ) -> None:
        super().__init__(vocab_size, width, dropout, norm)
        self.vocab_size = vocab_size
        # of the encoder's cells, then of the decoder's
        self.places = nn.Embedding(2 * grid.cells, width)
        around = grid.earlier()
        self.neighbours = nn.Embedding(around.shape[1] * vocab_size, width)
        self.register_buffer("around", around, persistent=False)

    def read(self, ids: Int[Tensor, "batch cells"]) -> Float[Tensor, "batch rows width"]:
        rows = super().read(ids)
        if ids.shape[1] == 0:  # no picture: row 0 alone
            return rows
        return rows + F.pad(self.standing(0), (0, 0, 0, 1))  # row 0 is a place of its own

    def write(self, inputs: Int[Tensor, "batch cells"]) -> Float[Tensor, "batch cells width"]:
        count = inputs.shape[1]
        cells = F.pad(inputs[:, 1:], (0, 1), value=PAD)
        return self.dropout(
            self.norm(self.near(cells, self.around[:count]) + self.standing(1)[:count])
        )

    def feed(self, rows: int) -> Feed:
        return _GridFeed(self, rows)

    def near(
        self, cells: Int[Tensor, "batch cells"], some: Int[Tensor, "places offsets"]
    ) -> Float[Tensor, "batch places width"]:
        """The sum over the cells that ``some`` of :attr:`around` name."""
        tables = self.vocab_size * torch.arange(some.shape[1], device=cells.device)
        summed = F.embedding_bag(
            (cells[:, some] + tables).flatten(0, 1), self.neighbours.weight, mode="sum"
        )
        return summed.view(len(cells), -1, summed.shape[-1])

    def standing(self, segment: int) -> Float[Tensor, "cells width"]:
        """What every place adds in the encoder (0) or the decoder (1)."""
        return self.places.weight.chunk(2)[segment]


class _GridFeed:
    """Keeps the cells written so far, padding in place of the others."""

    def __init__(self, embedding: GridEmbedding, rows: int) -> None:
        self.embedding = embedding
        self.places = embedding.standing(1)
        self.count = 0
        self.cells = torch.full((rows, len(self.places)), PAD, device=self.places.device)

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        if self.count:  # the first token is the start and no cell
            self.cells[:, self.count - 1] = tokens
        cell = slice(self.count, self.count + 1)
        self.count += 1
        near = self.embedding.near(self.cells, self.embedding.around[cell])
        return self.embedding.norm(near + self.places[cell]).squeeze(1)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        self.cells = self.cells[rows]
