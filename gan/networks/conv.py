"""A convolutional generator and critic.

References:
    Unsupervised Representation Learning with DCGAN (Radford et al., 2016),
    https://arxiv.org/abs/1511.06434 Spectral Normalization for GANs (Miyato et al., 2018),
    https://arxiv.org/abs/1802.05957
"""

import math
from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.networks.layers import SMALLEST_HALVED, ConditionalNorm, Network, gan_init, projected
from univae.image_shapes import Shape, halvings

__all__ = ["ConvCritic", "ConvGenerator"]


class ConvGenerator(Network):
    r"""A DCGAN generator: a linear layer to the smallest image, doublings by transposed convolutions, tanh.

    ``width`` channels at full size and twice as many per halving, 8 ``width`` at most.
    """

    def __init__(self, shape: Shape, latent: int = 64, width: int = 32, classes: int = 0) -> None:
        super().__init__(shape, latent=latent, width=width, classes=classes)
        found = halvings(shape, "ConvGenerator", SMALLEST_HALVED)
        widths = [width * min(2**i, 8) for i in reversed(range(len(found)))]
        self.first = nn.Linear(latent, widths[0] * math.prod(found[-1]))
        self.smallest = (widths[0], *found[-1])
        self.norms = nn.ModuleList(ConditionalNorm(w, classes) for w in widths)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], shape[0], 3, padding=1)
        gan_init(self, 0.0)

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None
    ) -> Tensor:
        labels = self.labels(labels) if self.classes else None
        h = self.first(z).unflatten(1, self.smallest)
        for norm, up in zip(self.norms, (*self.ups, self.last), strict=True):
            h = up(norm(h, labels).relu())
        return h.tanh()


class ConvCritic(Network):
    """The critic of SN-DCGAN: convolutions with leaky ReLUs, halving the image, no norm.

    One chain of layers.
    """

    piecewise_linear = True

    def __init__(self, shape: Shape, width: int = 32, leak: float = 0.1, classes: int = 0) -> None:
        super().__init__(shape, width=width, leak=leak, classes=classes)
        self.sequential = not classes
        found = halvings(shape, "ConvCritic", SMALLEST_HALVED)
        widths = [width * min(2**i, 8) for i in range(len(found))]
        body: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, 1, 1), nn.LeakyReLU(leak)]
        for a, b in pairwise(widths):
            body += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(leak)]
        flat = widths[-1] * math.prod(found[-1])
        self.layers = nn.Sequential(*body, nn.Flatten(), nn.Linear(flat, 1))
        self.embed = nn.Embedding(classes, flat) if classes else None
        gan_init(self, leak)

    @property
    def head(self) -> nn.Module:
        return self.layers[-1]

    def forward(
        self, x: Float[Tensor, "batch c h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        return projected(self, self.layers[:-1](x), labels)
