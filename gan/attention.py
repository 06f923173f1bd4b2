"""A small generator and critic of images that attend over patches, through the shared core.

A critic's score is differentiated twice, so it attends with the twice-differentiable kernel. It is smooth, with
layer norms: gradient normalisation bounds nothing here (:mod:`gan.gradient_norm`), and the generator's step takes the
second-order path.
"""

import math
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.parts import Network, Shape, projected
from univae.attention import Mix, attend
from univae.errors import InputError
from univae.rope import phases
from univae.transformer import Block, initialise

__all__ = ["AttentionCritic", "AttentionGenerator"]


class AttentionGenerator(Network):
    """Spreads the latent over the patches, attends, and paints each patch; tanh."""

    def __init__(
        self,
        shape: Shape,
        latent: int = 64,
        patch: int = 4,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        classes: int = 0,
    ) -> None:
        given = {"latent": latent, "patch": patch, "width": width, "heads": heads, "layers": layers}
        super().__init__(shape, **given, classes=classes)
        grid = _grid(shape, patch, "AttentionGenerator")
        self.embed = nn.Embedding(classes, latent) if classes else None
        self.spread = nn.Linear(latent, math.prod(grid) * width)
        self.body = _Patches(grid, width, heads, layers, attend)
        self.last = nn.Linear(width, shape[0] * patch**2)
        self.paste = nn.Fold(shape[1:], patch, stride=patch)
        initialise(self.last, 1 / math.sqrt(width))
        nn.init.normal_(self.spread.weight, std=1 / math.sqrt(latent))

    def forward(self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None) -> Tensor:
        if self.embed is not None:
            z = z + self.embed(self.labels(labels))
        rows = self.body(self.spread(z).unflatten(1, (-1, self.last.in_features)))
        return self.paste(self.last(rows).mT).tanh()


class AttentionCritic(Network):
    """Embeds the patches, attends, and reads the score off the mean row."""

    def __init__(
        self, shape: Shape, patch: int = 4, width: int = 64, heads: int = 4, layers: int = 2, classes: int = 0
    ) -> None:
        super().__init__(shape, patch=patch, width=width, heads=heads, layers=layers, classes=classes)
        grid = _grid(shape, patch, "AttentionCritic")
        self.cut = nn.Unfold(patch, stride=patch)
        self.first = nn.Linear(shape[0] * patch**2, width)
        mix: Mix = partial(attend, twice_differentiable=True)
        self.body = _Patches(grid, width, heads, layers, mix)
        self.head = nn.Linear(width, 1)
        self.embed = nn.Embedding(classes, width) if classes else None
        initialise(self.first, 1 / math.sqrt(shape[0] * patch**2))
        initialise(self.head, 1 / math.sqrt(width))
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=0.01)

    def forward(
        self, x: Float[Tensor, "batch c h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        return projected(self, self.body(self.first(self.cut(x).mT)).mean(1), labels)


class _Patches(nn.Module):
    """Blocks over a grid of rows; half of the feature pairs turn with the row of the patch, half with its column."""

    grid: Tensor

    def __init__(self, grid: tuple[int, int], width: int, heads: int, layers: int, mix: Mix) -> None:
        super().__init__()
        if width % (4 * heads):
            raise InputError(f"attention: width must be a multiple of 4 heads; got width={width}, heads={heads}")
        places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))
        self.register_buffer("grid", places, persistent=False)
        self.turned, self.mix = width // heads // 2, mix
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        initialise(self, 1 / math.sqrt(width))

    def forward(self, rows: Float[Tensor, "batch rows width"]) -> Float[Tensor, "batch rows width"]:
        phase = phases(self.grid, self.turned, dtype=self.norm.weight.dtype).flatten(1).unsqueeze(0)
        for block in self.blocks:
            rows = block(rows, phase, self.mix)
        return self.norm(rows)


def _grid(shape: Shape, patch: int, who: str) -> tuple[int, int]:
    if len(shape) != 3 or shape[1] % patch or shape[2] % patch:
        raise InputError(
            f"{who}: patch must divide both sides of (channels, height, width); got patch={patch}, shape={shape}"
        )
    return shape[1] // patch, shape[2] // patch
