"""A convolutional generator and critic, as in DCGAN.

References:
    Unsupervised Representation Learning with DCGAN (Radford et al., 2016),
    https://arxiv.org/abs/1511.06434

    Spectral Normalization for GANs (Miyato et al., 2018), https://arxiv.org/abs/1802.05957
"""

import math
from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.networks.layers import SMALLEST_HALVED, ConditionalNorm, Network, gan_init, projected
from univae.image_shapes import Shape, halvings

__all__ = ["ConvCritic", "ConvGenerator"]

# Channels double with every halving of the image, up to this multiple of the width.
WIDEST = 8


class ConvGenerator(Network):
    """A DCGAN generator: a linear layer to the smallest image, transposed convolutions, tanh.

    It has ``width`` channels at full size, twice as many per halving, at most 8 ``width``.
    """

    def __init__(self, shape: Shape, latent: int = 64, width: int = 32, classes: int = 0) -> None:
        super().__init__(shape, latent=latent, width=width, classes=classes)
        image_sizes = halvings(shape, "ConvGenerator", SMALLEST_HALVED)
        widths = _widths(width, len(image_sizes))[::-1]
        smallest_size = image_sizes[-1]
        self.first = nn.Linear(latent, widths[0] * math.prod(smallest_size))
        self.smallest = (widths[0], *smallest_size)
        self.norms = nn.ModuleList(ConditionalNorm(channels, classes) for channels in widths)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1)
            for channels_in, channels_out in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], shape[0], 3, padding=1)
        gan_init(self, 0.0)

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None
    ) -> Tensor:
        """Return images (batch, channels, height, width) in [-1, 1]."""
        labels = self.labels(labels) if self.classes else None
        h: Tensor = self.first(z).unflatten(1, self.smallest)
        for norm, up in zip(self.norms, (*self.ups, self.last), strict=True):
            h = up(norm(h, labels).relu())
        return h.tanh()


class ConvCritic(Network):
    """The critic of SN-DCGAN: convolutions that halve the image, leaky ReLUs, no norms.

    Without classes it is one chain of layers.
    """

    piecewise_linear = True
    affine_forward = True
    sequential = True

    def __init__(self, shape: Shape, width: int = 32, leak: float = 0.1, classes: int = 0) -> None:
        super().__init__(shape, width=width, leak=leak, classes=classes)
        image_sizes = halvings(shape, "ConvCritic", SMALLEST_HALVED)
        widths = _widths(width, len(image_sizes))
        body: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, 1, 1), nn.LeakyReLU(leak)]
        for channels_in, channels_out in pairwise(widths):
            body += [nn.Conv2d(channels_in, channels_out, 4, 2, 1), nn.LeakyReLU(leak)]
        features = widths[-1] * math.prod(image_sizes[-1])
        self.layers = nn.Sequential(*body, nn.Flatten(), nn.Linear(features, 1))
        self.embed = nn.Embedding(classes, features) if classes else None
        gan_init(self, leak)

    @property
    def head(self) -> nn.Module:
        """The last linear layer."""
        return self.layers[-1]

    def forward(
        self, x: Float[Tensor, "batch c h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        """Return one score per image."""
        return projected(self, self.layers[:-1](x), labels)


def _widths(width: int, count: int) -> list[int]:
    """Return the channels at each image size, the full size first."""
    return [width * min(2**halving, WIDEST) for halving in range(count)]
