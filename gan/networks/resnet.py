r"""Residual generator and critic, as in SN-GAN; with classes, BigGAN-like: class-wise norms, projection of the label.

References:
    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018),
    https://arxiv.org/abs/1802.05957 Large Scale GAN Training for High Fidelity Natural Image
    Synthesis (Brock et al., 2018), https://arxiv.org/abs/1809.11096
"""

import math
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.networks.layers import SMALLEST_HALVED, ConditionalNorm, Network, gan_init, projected
from univae.image_shapes import Shape, halvings

__all__ = ["ResNetCritic", "ResNetGenerator"]


class ResNetGenerator(Network):
    """Residual doublings from the smallest image, class-wise batch norms, tanh; ``width`` channels throughout.

    With classes, each norm's gain and shift are the class's, and a share of the latent goes to each
    resolution's block (``skip``), as in BigGAN.
    """

    def __init__(
        self, shape: Shape, latent: int = 128, width: int = 64, classes: int = 0, skip: bool = False
    ) -> None:
        super().__init__(shape, latent=latent, width=width, classes=classes, skip=skip)
        found = halvings(shape, "ResNetGenerator", SMALLEST_HALVED)
        count = len(found)  # the first layer, and a block per doubling
        self.shares = [latent // count] * (count - 1) if skip else []
        self.shares.insert(0, latent - sum(self.shares))
        self.first = nn.Linear(self.shares[0], width * math.prod(found[-1]))
        self.smallest = (width, *found[-1])
        self.blocks = nn.ModuleList(
            _Up(width, classes, latent // count if skip else 0) for _ in found[1:]
        )
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, shape[0], 3, padding=1)
        gan_init(self, 0.0)

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None
    ) -> Tensor:
        labels = self.labels(labels) if self.classes else None
        first, *rest = z.split(self.shares, 1)
        h = self.first(first).unflatten(1, self.smallest)
        for i, block in enumerate(self.blocks):
            h = block(h, labels, rest[i] if rest else None)
        return self.last(self.norm(h).relu()).tanh()


class ResNetCritic(Network):
    """Residual halvings, then two blocks at the smallest size, ReLU, sum over the image, linear.

    No norms.
    """

    piecewise_linear = True

    def __init__(self, shape: Shape, width: int = 64, classes: int = 0) -> None:
        super().__init__(shape, width=width, classes=classes)
        count = len(halvings(shape, "ResNetCritic", SMALLEST_HALVED)) - 1
        widths = [shape[0], *[width] * (count + 2)]
        halved = [i < count for i in range(count + 2)]
        self.blocks = nn.Sequential(
            *[
                _Down(a, b, half, i == 0)
                for i, ((a, b), half) in enumerate(zip(pairwise(widths), halved, strict=True))
            ],
            nn.ReLU(),
        )
        self.head = nn.Linear(width, 1)
        self.embed = nn.Embedding(classes, width) if classes else None
        gan_init(self, 0.0)

    def forward(
        self, x: Float[Tensor, "batch c h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        return projected(self, self.blocks(x).sum((2, 3)), labels)


class _Up(nn.Module):
    def __init__(self, width: int, classes: int, latent: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ConditionalNorm(width, classes) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.short = nn.Conv2d(width, width, 1)
        self.turn = nn.Linear(latent, 2 * width) if latent else None

    def forward(self, x: Tensor, labels: Tensor | None, z: Tensor | None) -> Tensor:
        h = self._normed(0, x, labels, z).relu()
        h = self.convs[0](F.interpolate(h, scale_factor=2))
        h = self.convs[1](self._normed(1, h, labels, z).relu())
        return h + F.interpolate(self.short(x), scale_factor=2)

    def _normed(self, i: int, x: Tensor, labels: Tensor | None, z: Tensor | None) -> Tensor:
        x = self.norms[i](x, labels)
        if self.turn is None:
            return x
        gain, shift = self.turn(z)[..., None, None].chunk(2, 1)
        return x * (1 + gain) + shift


class _Down(nn.Module):
    piecewise_linear = True

    def __init__(self, into: int, width: int, half: bool, first: bool) -> None:
        super().__init__()
        inner: list[nn.Module] = [nn.Conv2d(into, width, 3, padding=1), nn.ReLU()]
        inner.append(nn.Conv2d(width, width, 3, padding=1))
        # Fresh modules for every place: an activation is hooked where it stands.
        self.branch = nn.Sequential(
            *([] if first else [nn.ReLU()]), *inner, *([nn.AvgPool2d(2)] if half else [])
        )
        short = [nn.AvgPool2d(2)] if half else []
        if into != width:
            short.append(nn.Conv2d(into, width, 1))  # type: ignore[arg-type]
        self.short = nn.Sequential(*short)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.short(x)
