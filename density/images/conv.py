"""A VAE of residual convolutions."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.images.base import ImageModel
from density.images.layers import GaussianMLP, ResNet, glorot
from density.likelihoods.head import Pixels
from univae.image_shapes import halvings, image_shape

__all__ = ["ConvVAE"]


class ConvVAE(ImageModel):
    """Residual convolutions, halving the image while both sides are even and one is above 4, and one latent vector.

    Made for 1 or 3 channels and sides from 8 to 64.
    """

    def __init__(self, pixels: Pixels, latent: int = 32, width: int = 32, depth: int = 1) -> None:
        super().__init__(pixels, latent=latent, width=width, depth=depth)
        self.latent = latent
        channels, *_ = image_shape(pixels, "ConvVAE")
        sizes = halvings(pixels, "ConvVAE")[1:]
        height, breadth = sizes[-1]
        inputs = [channels] + [width] * (len(sizes) - 1)
        flat = width * height * breadth
        smaller = [
            part for c in inputs for part in (nn.Conv2d(c, width, 4, 2, 1), ResNet(width, depth))
        ]
        self.encoder = nn.Sequential(*smaller, nn.GELU(), nn.Flatten())
        self.head = GaussianMLP((flat,), latent, "gelu")
        larger = [
            part
            for _ in sizes
            for part in (ResNet(width, depth), nn.ConvTranspose2d(width, width, 4, 2, 1))
        ]
        self.decoder = nn.Sequential(
            nn.Linear(latent, flat),
            nn.Unflatten(1, (width, height, breadth)),
            *larger,
            nn.GELU(),
            nn.Conv2d(width, self.output.numbers * channels, 3, padding=1),
        )
        glorot(self)

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        return self.head(self.encoder(self.output.scaled(x)))

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        return self.decoder(z.reshape(-1, z.shape[-1])).reshape(
            *z.shape[:-1], -1, *self.output.pixels.shape
        )
