r"""A residual generator and critic, as in SN-GAN; with classes, as in BigGAN.

A conditional generator has class-wise norms, a conditional critic a projection of the label.

References:
    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018),
    https://arxiv.org/abs/1802.05957

    Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock et al., 2018),
    https://arxiv.org/abs/1809.11096
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.networks.layers import SMALLEST_HALVED, ConditionalNorm, Network, gan_init, projected
from univae.image_shapes import Shape, halvings

__all__ = ["ResNetCritic", "ResNetGenerator"]

# Residual blocks of the critic at the smallest image size, after the blocks that halve the image.
BLOCKS_AT_SMALLEST_SIZE = 2


class ResNetGenerator(Network):
    """Residual blocks that double the image, batch norms, tanh; ``width`` channels at every size.

    With classes, the gain and shift of the norms depend on the class. With ``skip`` the latent is
    split over the first layer and all blocks, as in BigGAN.
    """

    def __init__(
        self,
        shape: Shape,
        latent: int = 128,
        width: int = 64,
        classes: int = 0,
        *,
        skip: bool = False,
    ) -> None:
        super().__init__(shape, latent=latent, width=width, classes=classes, skip=skip)
        image_sizes = halvings(shape, "ResNetGenerator", SMALLEST_HALVED)
        doublings = len(image_sizes) - 1
        block_latent = latent // (doublings + 1) if skip else 0
        block_latents = [block_latent] * doublings if skip else []
        # widths of the slices of the latent: of the first layer, then of each block
        self.latent_slices = [latent - sum(block_latents), *block_latents]
        smallest_size = image_sizes[-1]
        self.first = nn.Linear(self.latent_slices[0], width * math.prod(smallest_size))
        self.smallest = (width, *smallest_size)
        self.blocks = nn.ModuleList(_Up(width, classes, block_latent) for _ in range(doublings))
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, shape[0], 3, padding=1)
        gan_init(self, 0.0)

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None
    ) -> Tensor:
        """Return images (batch, channels, height, width) in [-1, 1]."""
        labels = self.labels(labels) if self.classes else None
        first_latent, *block_latents = torch.split(z, self.latent_slices, 1)
        h: Tensor = self.first(first_latent).unflatten(1, self.smallest)
        for index, block in enumerate(self.blocks):
            h = block(h, labels, block_latents[index] if block_latents else None)
        image: Tensor = self.last(self.norm(h).relu())
        return image.tanh()


class ResNetCritic(Network):
    """Residual blocks that halve the image, two at the smallest size, ReLU, sum; no norms."""

    piecewise_linear = True
    affine_forward = True

    def __init__(self, shape: Shape, width: int = 64, classes: int = 0) -> None:
        super().__init__(shape, width=width, classes=classes)
        halving_count = len(halvings(shape, "ResNetCritic", SMALLEST_HALVED)) - 1
        blocks: list[nn.Module] = []
        for index in range(halving_count + BLOCKS_AT_SMALLEST_SIZE):
            channels_in = width if blocks else shape[0]
            blocks.append(_Down(channels_in, width, half=index < halving_count, first=index == 0))
        self.blocks = nn.Sequential(*blocks, nn.ReLU())
        self.head = nn.Linear(width, 1)
        self.embed = nn.Embedding(classes, width) if classes else None
        gan_init(self, 0.0)

    def forward(
        self, x: Float[Tensor, "batch c h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        """Return one score per image."""
        return projected(self, self.blocks(x).sum((2, 3)), labels)


class _Up(nn.Module):
    """A residual block that doubles the image; a latent slice scales and shifts its norms."""

    def __init__(self, width: int, classes: int, latent: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ConditionalNorm(width, classes) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.short = nn.Conv2d(width, width, 1)
        self.turn = nn.Linear(latent, 2 * width) if latent else None

    def forward(self, x: Tensor, labels: Tensor | None, z: Tensor | None) -> Tensor:
        """Return features of twice the height and width."""
        h = self._normalized(0, x, labels, z).relu()
        h = self.convs[0](F.interpolate(h, scale_factor=2))
        residual: Tensor = self.convs[1](self._normalized(1, h, labels, z).relu())
        shortcut: Tensor = F.interpolate(self.short(x), scale_factor=2)
        return residual + shortcut

    def _normalized(self, index: int, x: Tensor, labels: Tensor | None, z: Tensor | None) -> Tensor:
        normalized: Tensor = self.norms[index](x, labels)
        if self.turn is None:
            return normalized
        gain, shift = self.turn(z)[..., None, None].chunk(2, 1)
        conditioned: Tensor = normalized * (1 + gain) + shift
        return conditioned


class _Down(nn.Module):
    """A residual block that may halve the image; the first block of a critic has no first ReLU."""

    piecewise_linear = True
    affine_forward = True

    def __init__(self, channels_in: int, width: int, *, half: bool, first: bool) -> None:
        super().__init__()
        branch: list[nn.Module] = [] if first else [nn.ReLU()]
        branch += [nn.Conv2d(channels_in, width, 3, padding=1), nn.ReLU()]
        branch.append(nn.Conv2d(width, width, 3, padding=1))
        short: list[nn.Module] = []
        if half:
            branch.append(nn.AvgPool2d(2))
            short.append(nn.AvgPool2d(2))
        if channels_in != width:
            short.append(nn.Conv2d(channels_in, width, 1))
        self.branch = nn.Sequential(*branch)
        self.short = nn.Sequential(*short)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same or of half the height and width."""
        output: Tensor = self.branch(x) + self.short(x)
        return output
