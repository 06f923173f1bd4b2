r"""Embeddings of images as texts, whose tokens are the cells of a grid in raster order.

The embedding of a text depends on one token. In an image the cells above are as informative as the
previous cell, so a decoder's row is the sum over all earlier cells within ``near`` rows and
columns, each through a table for its offset,

.. math:: x_{rc} = a_{rc} + \sum_{(i, j) \prec (0, 0)} E_{ij}[\text{cell}_{r + i,\, c + j}],
          \qquad \lvert i \rvert, \lvert j \rvert \le \text{near},

with a learned row :math:`a` for each cell. Rotary phases stay those of a line of tokens: held-out
nats of binary 28x28 digits in patches of 2x2, after 6,000 images and with one seed, are 98.9 for
the line, 99.5 with phases that rotate half with the row and half with the column, 96.8 with a row
for each cell, 94.0 with neighbours and 94.8 with both.

References:
    Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from univae.attention.norms import Norm
from univae.attention.transformer import Embedding, Feed
from univae.attention.variant import PLAIN, Variant
from univae.errors import InputError
from univae.text.special import PAD

__all__ = ["Grid", "GridEmbedding"]

BLANK = -1  # index of a neighbour outside the image: the last cell, which is padding there


@dataclass(frozen=True)
class Grid:
    """The rows and columns of an image's cells.

    A decoder's row depends on earlier cells within ``near`` rows and columns.
    """

    rows: int
    columns: int
    near: int = 2

    def __post_init__(self) -> None:
        if min(self.rows, self.columns, self.near) < 1:
            raise InputError(
                "Grid: rows, columns and near must be at least 1; "
                f"got rows={self.rows}, columns={self.columns}, near={self.near}"
            )

    @property
    def cells(self) -> int:
        """The number of tokens of an image."""
        return self.rows * self.columns

    def earlier(self) -> Int[Tensor, "cells offsets"]:
        """Return, for every cell, the indices of the earlier cells near it, ``BLANK`` outside."""
        reach = range(-self.near, self.near + 1)
        offsets = torch.tensor([(i, j) for i in reach for j in reach if (i, j) < (0, 0)])
        cells = torch.cartesian_prod(torch.arange(self.rows), torch.arange(self.columns))
        row, column = (cells[:, None] + offsets).unbind(-1)
        outside = (row < 0) | (column < 0) | (column >= self.columns)
        return (row * self.columns + column).masked_fill(outside, BLANK)


class GridEmbedding(Embedding):
    """The :class:`univae.attention.transformer.Embedding` of the cells of a grid."""

    around: Tensor

    def __init__(
        self,
        vocab_size: int,
        width: int,
        grid: Grid,
        dropout: float = 0.0,
        norm: Norm = "pre",
        variant: Variant = PLAIN,
    ) -> None:
        if variant.table_width(width) != width:
            raise InputError(
                f"GridEmbedding: cells have the width {width} of the model; got embedding_width="
                f"{variant.embedding_width}; leave it 0"
            )
        super().__init__(vocab_size, width, dropout, norm, variant)
        self.vocab_size = vocab_size
        # a row for each cell of the encoder, then of the decoder; a name in weights files
        self.places = nn.Embedding(2 * grid.cells, width)
        around = grid.earlier()
        self.neighbours = nn.Embedding(around.shape[1] * vocab_size, width)
        self.register_buffer("around", around, persistent=False)

    def encoder_rows(self, ids: Int[Tensor, "batch cells"]) -> Float[Tensor, "batch rows width"]:
        """Return the encoder's rows: those of the cells, then row 0."""
        rows = super().encoder_rows(ids)
        if ids.shape[1] == 0:  # no image: row 0 alone
            return rows
        return rows + F.pad(self.cell_rows(0), (0, 0, 0, 1))  # row 0 has no cell

    def decoder_rows(
        self, inputs: Int[Tensor, "batch cells"]
    ) -> Float[Tensor, "batch cells width"]:
        """Return the decoder's rows; ``inputs`` are the start token and all cells but the last."""
        count = inputs.shape[1]
        cells = F.pad(inputs[:, 1:], (0, 1), value=PAD)
        neighbours = self.neighbour_rows(cells, self.around[:count])
        return self.finish(neighbours + self.cell_rows(1)[:count])

    def feed(self, rows: int) -> Feed:
        """Return :meth:`decoder_rows` of one cell an image at a time, without dropout."""
        return _GridFeed(self, rows)

    def neighbour_rows(
        self, cells: Int[Tensor, "batch cells"], around: Int[Tensor, "positions offsets"]
    ) -> Float[Tensor, "batch positions width"]:
        """Return the sum of the neighbours' rows at positions with the neighbours ``around``."""
        tables = self.vocab_size * torch.arange(around.shape[1], device=cells.device)
        indices = (cells[:, around] + tables).flatten(0, 1)
        rows = F.embedding_bag(indices, self.neighbours.weight, mode="sum")
        return rows.view(len(cells), -1, rows.shape[-1])

    def cell_rows(self, segment: int) -> Float[Tensor, "cells width"]:
        """Return the learned rows of all cells in the encoder (0) or the decoder (1)."""
        return self.places.weight.chunk(2)[segment]


class _GridFeed:
    """Embeds one cell an image, by the earlier cells."""

    def __init__(self, embedding: GridEmbedding, rows: int) -> None:
        self.embedding = embedding
        self.cell_rows = embedding.cell_rows(1)
        self.count = 0
        self.cells = torch.full((rows, len(self.cell_rows)), PAD, device=self.cell_rows.device)

    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        if self.count:  # the first token is the start token
            self.cells[:, self.count - 1] = tokens
        cell = slice(self.count, self.count + 1)
        self.count += 1
        neighbours = self.embedding.neighbour_rows(self.cells, self.embedding.around[cell])
        row: Tensor = self.embedding.norm(neighbours + self.cell_rows[cell])
        return row.squeeze(1)

    def reorder(self, rows: Int[Tensor, "rows"]) -> None:
        """Replace image i by image ``rows[i]``."""
        self.cells = self.cells[rows]
