"""A fully connected generator and critic."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.networks.layers import Network, gan_init, projected
from univae.image_shapes import Shape

__all__ = ["MLPCritic", "MLPGenerator"]

# Initial biases of a critic are uniform in [-1, 1]. With biases of 0 the kinks of all units pass
# through the origin, and a critic of points in a plane must first move them to separate regions.
CRITIC_BIAS = 1.0


class MLPGenerator(Network):
    """Fully connected layers with ReLUs; rows of any shape, in [-1, 1] if ``bounded``."""

    def __init__(
        self,
        shape: Shape,
        latent: int = 64,
        hidden: Sequence[int] = (128, 128),
        *,
        bounded: bool = True,
        classes: int = 0,
    ) -> None:
        super().__init__(
            shape, latent=latent, hidden=tuple(hidden), bounded=bounded, classes=classes
        )
        widths = [latent + classes, *hidden]
        body: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            body += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*body, nn.Linear(widths[-1], math.prod(shape)))
        self.out = nn.Tanh() if bounded else nn.Identity()

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None
    ) -> Tensor:
        """Return rows (batch, *shape); a conditional generator needs ``labels``."""
        if self.classes:
            one_hot = nn.functional.one_hot(self.labels(labels), self.classes)
            z = torch.cat((z, one_hot.to(z)), 1)
        rows: Tensor = self.out(self.layers(z))
        return rows.view(len(rows), *self.shape)


class MLPCritic(Network):
    """Fully connected layers with leaky ReLUs; without classes one chain of layers."""

    piecewise_linear = True
    affine_forward = True
    sequential = True

    def __init__(
        self, shape: Shape, hidden: Sequence[int] = (128, 128), leak: float = 0.1, classes: int = 0
    ) -> None:
        super().__init__(shape, hidden=tuple(hidden), leak=leak, classes=classes)
        widths = [math.prod(shape), *hidden]
        body: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            body += [nn.Linear(width_in, width_out), nn.LeakyReLU(leak)]
        self.layers = nn.Sequential(nn.Flatten(), *body, nn.Linear(widths[-1], 1))
        self.embed = nn.Embedding(classes, widths[-1]) if classes else None
        gan_init(self, leak, bias=CRITIC_BIAS)

    @property
    def head(self) -> nn.Module:
        """The last linear layer."""
        return self.layers[-1]

    def forward(
        self, x: Float[Tensor, "batch *shape"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        """Return one score per row."""
        return projected(self, self.layers[:-1](x), labels)
