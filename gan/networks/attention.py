"""A small generator and critic of images that attend over patches, with the shared attention core.

The critic's score is differentiated twice, so its operators have second derivatives of their own
(:mod:`univae.attention.second_order`). Because the critic is smooth, gradient normalisation does
not bound its gradient (:mod:`gan.normalization.gradient`), and generator steps need a second-order
pass.
"""

import math

from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.networks.layers import EMBEDDING_STD, Network, projected
from univae.attention.core import attend
from univae.attention.patches import Patches, patch_grid
from univae.attention.second_order import TwiceDifferentiableNorm, attend_unmasked, gelu
from univae.attention.transformer import Block, initialise
from univae.image_shapes import Shape

__all__ = ["AttentionCritic", "AttentionGenerator"]


class AttentionGenerator(Network):
    """A linear map from the latent to all patches, attention, a linear map to pixels, tanh."""

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
        super().__init__(
            shape,
            latent=latent,
            patch=patch,
            width=width,
            heads=heads,
            layers=layers,
            classes=classes,
        )
        grid = patch_grid(shape, patch, "AttentionGenerator")
        self.embed = nn.Embedding(classes, latent) if classes else None
        self.spread = nn.Linear(latent, math.prod(grid) * width)
        self.body = Patches(grid, width, heads, layers, attend, 1 / math.sqrt(width))
        self.last = nn.Linear(width, shape[0] * patch**2)
        self.paste = nn.Fold(shape[1:], patch, stride=patch)
        initialise(self.last, 1 / math.sqrt(width))
        nn.init.normal_(self.spread.weight, std=1 / math.sqrt(latent))

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None
    ) -> Tensor:
        """Return images (batch, channels, height, width) in [-1, 1]."""
        if self.embed is not None:
            z = z + self.embed(self.labels(labels))
        patches = self.body(self.spread(z).unflatten(1, (-1, self.last.in_features)))
        image: Tensor = self.paste(self.last(patches).mT)
        return image.tanh()


class TwiceDifferentiableBlock(Block):
    """A transformer block whose operators have second derivatives of their own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.first = TwiceDifferentiableNorm(width)
        self.second = TwiceDifferentiableNorm(width)

    def network(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return the two-layer network of ``x``."""
        output: Tensor = self.narrow(gelu(self.wide(x)))
        return output


class AttentionCritic(Network):
    """A linear embedding of patches, attention, and a score of the mean patch."""

    def __init__(
        self,
        shape: Shape,
        patch: int = 4,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        classes: int = 0,
    ) -> None:
        super().__init__(
            shape, patch=patch, width=width, heads=heads, layers=layers, classes=classes
        )
        grid = patch_grid(shape, patch, "AttentionCritic")
        self.patch = patch
        self.first = nn.Linear(shape[0] * patch**2, width)
        self.body = Patches(
            grid,
            width,
            heads,
            layers,
            attend_unmasked,
            1 / math.sqrt(width),
            TwiceDifferentiableBlock,
        )
        self.body.norm = TwiceDifferentiableNorm(width)
        self.head = nn.Linear(width, 1)
        self.embed = nn.Embedding(classes, width) if classes else None
        initialise(self.first, 1 / math.sqrt(shape[0] * patch**2))
        initialise(self.head, 1 / math.sqrt(width))
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=EMBEDDING_STD)

    def forward(
        self, x: Float[Tensor, "batch c h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        """Return one score per image."""
        patches = self.body(self.first(_cut(x, self.patch)))
        return projected(self, patches.mean(1), labels)


def _cut(x: Float[Tensor, "batch c h w"], patch: int) -> Float[Tensor, "batch rows numbers"]:
    """Return the patches of images in raster order; they do not overlap."""
    blocks: Tensor = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
