"""A VAE of attention over patches."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.images.base import ImageModel
from density.images.layers import GaussianMLP, glorot
from density.likelihoods.head import Pixels
from univae.attention.patches import Patches
from univae.errors import InputError
from univae.image_shapes import image_shape

__all__ = ["AttentionVAE"]


class AttentionVAE(ImageModel):
    """Square patches through the shared attention core, both ways, and one latent vector.

    The encoder reads the latent off the rows of all patches side by side; the decoder spreads z
    over them in the same way. A road that every patch has to itself starts learning at once; one
    shared row stays silent for long.
    """

    def __init__(
        self,
        pixels: Pixels,
        latent: int = 32,
        patch: int = 4,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
    ) -> None:
        super().__init__(
            pixels, latent=latent, patch=patch, width=width, heads=heads, layers=layers
        )
        channels, height, breadth = image_shape(pixels, "AttentionVAE")
        if height % patch or breadth % patch:
            raise InputError(
                f"AttentionVAE: patch must divide both sides; got patch={patch}, {height}x{breadth} pixels"
            )
        self.latent = latent
        grid = (height // patch, breadth // patch)
        self.cut = nn.Unfold(patch, stride=patch)  # (N, c, h, w) to (N, c patch^2, patches)
        self.paste = nn.Fold((height, breadth), patch, stride=patch)
        self.embed = nn.Linear(channels * patch**2, width)
        self.encoder = Patches(grid, width, heads, layers)
        self.head = GaussianMLP((math.prod(grid) * width,), latent, "gelu")
        self.spread = nn.Linear(latent, math.prod(grid) * width)
        self.decoder = Patches(grid, width, heads, layers)
        self.last = nn.Linear(width, self.output.numbers * channels * patch**2)
        for part in (self.embed, self.head, self.spread, self.last):
            glorot(part)

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        rows = self.embed(self.cut(self.output.scaled(x)).mT)
        return self.head(self.encoder(rows).flatten(1))

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        rows = self.spread(z.reshape(-1, z.shape[-1])).unflatten(-1, (-1, self.last.in_features))
        return self.paste(self.last(self.decoder(rows)).mT).reshape(
            *z.shape[:-1], -1, *self.output.pixels.shape
        )
