"""A VAE of residual convolutions."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.images.base import ImageModel
from density.images.layers import GaussianMLP, ResNet, glorot
from density.likelihoods.head import Pixels
from univae.image_shapes import halvings

__all__ = ["SMALLEST_HALVED", "ConvVAE"]

SMALLEST_HALVED = 5  # pixels: an image whose sides are both shorter is not halved


class ConvVAE(ImageModel):
    """Residual convolutions and one latent vector.

    The encoder halves the image while both sides are even and one is above 4; the decoder doubles
    it as often. The sizes suit 1 or 3 channels and sides from 8 to 64.
    """

    def __init__(self, pixels: Pixels, latent: int = 32, width: int = 32, depth: int = 1) -> None:
        super().__init__(pixels, latent=latent, width=width, depth=depth)
        self.latent = latent
        sizes = halvings(pixels.shape, "ConvVAE", SMALLEST_HALVED)[1:]
        channels = pixels.shape[0]
        height, breadth = sizes[-1]
        flat = width * height * breadth

        encoder: list[nn.Module] = []
        for inputs in [channels] + [width] * (len(sizes) - 1):
            encoder += [nn.Conv2d(inputs, width, 4, 2, 1), ResNet(width, depth)]
        self.encoder = nn.Sequential(*encoder, nn.GELU(), nn.Flatten())
        self.head = GaussianMLP((flat,), latent, "gelu")

        decoder: list[nn.Module] = []
        for _ in sizes:
            decoder += [ResNet(width, depth), nn.ConvTranspose2d(width, width, 4, 2, 1)]
        self.decoder = nn.Sequential(
            nn.Linear(latent, flat),
            nn.Unflatten(1, (width, height, breadth)),
            *decoder,
            nn.GELU(),
            nn.Conv2d(width, self.output.numbers * channels, 3, padding=1),
        )
        glorot(self)

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        r"""Return :math:`q(z \mid x)`, a diagonal Gaussian."""
        distribution: Distribution = self.head(self.encoder(self.output.scaled(x)))
        return distribution

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        r"""Return the parameters of every pixel, (\*lead, numbers, \*shape)."""
        parameters: Tensor = self.decoder(z.reshape(-1, z.shape[-1]))
        return parameters.reshape(*z.shape[:-1], -1, *self.output.pixels.shape)
