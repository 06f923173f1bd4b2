"""A VAE of attention over patches."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.images.base import ImageModel
from density.images.layers import GaussianMLP, glorot
from density.likelihoods.head import Pixels
from univae.attention.patches import Patches, patch_grid

__all__ = ["AttentionVAE"]


class AttentionVAE(ImageModel):
    """Attention over square patches, as encoder and as decoder, and one latent vector.

    The encoder reads the latent from the concatenated rows of all patches; the decoder maps z to
    all rows by one linear layer. Separate weights for each patch train faster at first than a row
    shared by all patches.
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
        self.latent = latent
        grid = patch_grid(pixels.shape, patch, "AttentionVAE")
        numbers = pixels.shape[0] * patch**2  # of a patch
        self.cut = nn.Unfold(patch, stride=patch)  # (N, c, h, w) to (N, c patch^2, patches)
        self.paste = nn.Fold(pixels.shape[1:], patch, stride=patch)
        self.embed = nn.Linear(numbers, width)
        self.encoder = Patches(grid, width, heads, layers)
        self.head = GaussianMLP((math.prod(grid) * width,), latent, "gelu")
        self.spread = nn.Linear(latent, math.prod(grid) * width)
        self.decoder = Patches(grid, width, heads, layers)
        self.last = nn.Linear(width, self.output.numbers * numbers)
        for module in (self.embed, self.head, self.spread, self.last):
            glorot(module)

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        r"""Return :math:`q(z \mid x)`, a diagonal Gaussian."""
        rows = self.embed(self.cut(self.output.scaled(x)).mT)
        distribution: Distribution = self.head(self.encoder(rows).flatten(1))
        return distribution

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        r"""Return the parameters of every pixel, (\*lead, numbers, \*shape)."""
        flat = z.reshape(-1, z.shape[-1])
        rows = self.spread(flat).unflatten(-1, (-1, self.last.in_features))
        parameters: Tensor = self.paste(self.last(self.decoder(rows)).mT)
        return parameters.reshape(*z.shape[:-1], -1, *self.output.pixels.shape)
