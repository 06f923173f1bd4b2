"""Transformer blocks over a grid of image patches, with rotary positions for rows and columns."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from univae.attention.core import Mix, attend
from univae.attention.rotary import phases
from univae.attention.transformer import Block, initialise
from univae.errors import InputError

__all__ = ["Patches"]


class Patches(nn.Module):
    """Transformer blocks over a grid of rows: every row sees all, turned by its place in the plane.

    Half of the feature pairs of a head turn with the row of the patch, half with its column, so
    that scores see the way from one patch to another.
    """

    grid: Int[Tensor, "rows 2"]

    def __init__(self, grid: tuple[int, int], width: int, heads: int, layers: int) -> None:
        super().__init__()
        if width % (4 * heads):
            raise InputError(
                f"Patches: width must be a multiple of 4 heads, pairs for the two directions; got width={width}, "
                f"heads={heads}"
            )
        places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))
        self.register_buffer("grid", places, persistent=False)
        self.turned = width // heads // 2
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        initialise(self)

    def forward(self, rows: Float[Tensor, "batch rows width"]) -> Float[Tensor, "batch rows width"]:
        phase = phases(self.grid, self.turned, dtype=self.norm.weight.dtype).flatten(1).unsqueeze(0)
        for block in self.blocks:
            rows = block(rows, phase, attend)
        return self.norm(rows)


class _Patches(nn.Module):
    """Blocks over a grid of rows.

    Half of the feature pairs turn with the row of the patch, half with its column.
    """

    grid: Tensor

    def __init__(
        self, grid: tuple[int, int], width: int, heads: int, layers: int, mix: Mix
    ) -> None:
        super().__init__()
        if width % (4 * heads):
            raise InputError(
                f"attention: width must be a multiple of 4 heads; got width={width}, heads={heads}"
            )
        places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))
        self.register_buffer("grid", places, persistent=False)
        self.turned = width // heads // 2
        self.mix = mix
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        initialise(self, 1 / math.sqrt(width))

    def forward(self, rows: Float[Tensor, "batch rows width"]) -> Float[Tensor, "batch rows width"]:
        phase = phases(self.grid, self.turned, dtype=self.norm.weight.dtype).flatten(1).unsqueeze(0)
        for block in self.blocks:
            rows = block(rows, phase, self.mix)
        return self.norm(rows)
