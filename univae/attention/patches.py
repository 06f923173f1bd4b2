"""Transformer blocks over a grid of image patches, with rotary positions for rows and columns."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from univae.attention.core import Mix, attend
from univae.attention.rotary import phases
from univae.attention.transformer import Block, initialise
from univae.errors import InputError
from univae.image_shapes import Shape, image_shape

__all__ = ["Patches", "patch_grid"]


def patch_grid(shape: Shape, patch: int, who: str) -> tuple[int, int]:
    """Return the rows and columns of square patches, ``patch`` pixels wide, of an image.

    Raises:
        InputError: ``shape`` is not that of an image, or ``patch`` does not divide both sides.
    """
    _, height, width = image_shape(shape, who)
    if height % patch or width % patch:
        raise InputError(
            f"{who}: patch must divide both sides; got patch={patch}, {height}x{width} pixels"
        )
    return height // patch, width // patch


class Patches(nn.Module):
    """Transformer blocks over the patches of an image in raster order, without a mask.

    Half of the feature pairs of a head rotate with the row of the patch, half with its column, so
    that scores depend on the offset between two patches in the plane.
    """

    grid: Int[Tensor, "rows 2"]

    def __init__(
        self,
        grid: tuple[int, int],
        width: int,
        heads: int,
        layers: int,
        mix: Mix = attend,
        std: float = 0.02,
        block: Callable[[int, int], Block] = Block,
    ) -> None:
        """Build ``layers`` blocks for ``grid`` rows and columns of patches.

        ``mix`` computes the attention, ``std`` is the deviation of the initial weights, and
        ``block`` builds a block of a width and a number of heads.

        Raises:
            InputError: ``width`` is not a multiple of 4 ``heads``: a head has equally many
                feature pairs for rows and for columns.
        """
        super().__init__()
        if width % (4 * heads):
            raise InputError(
                "Patches: width must be a multiple of 4 heads, pairs for the two directions; "
                f"got width={width}, heads={heads}"
            )
        positions = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))
        self.register_buffer("grid", positions, persistent=False)
        self.features = width // heads // 2  # of a head that rotate with one direction
        self.mix = mix
        self.blocks = nn.ModuleList(block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        initialise(self, std)

    def forward(self, rows: Float[Tensor, "batch rows width"]) -> Float[Tensor, "batch rows width"]:
        """Return the patches' rows after all blocks, normalised."""
        phase = phases(self.grid, self.features, dtype=self.norm.weight.dtype)
        phase = phase.flatten(1).unsqueeze(0)
        for block in self.blocks:
            rows = block(rows, phase, self.mix)
        normalised: Tensor = self.norm(rows)
        return normalised
