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


class MLPGenerator(Network):
    """Fully connected; data of any shape, within [-1, 1] if ``bounded``."""

    def __init__(
        self,
        shape: Shape,
        latent: int = 64,
        hidden: Sequence[int] = (128, 128),
        bounded: bool = True,
        classes: int = 0,
    ) -> None:
        super().__init__(
            shape, latent=latent, hidden=tuple(hidden), bounded=bounded, classes=classes
        )
        widths = [latent + classes, *hidden]
        body = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*body, nn.Linear(widths[-1], math.prod(shape)))
        self.out = nn.Tanh() if bounded else nn.Identity()

    def forward(
        self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None
    ) -> Tensor:
        if self.classes:
            z = torch.cat((z, nn.functional.one_hot(self.labels(labels), self.classes).to(z)), 1)
        return self.out(self.layers(z)).unflatten(1, self.shape)


class MLPCritic(Network):
    """Fully connected with leaky ReLUs: piecewise linear, and one chain of layers.

    Biases start within [-1, 1]. Were they 0, the kinks of all units would pass through the origin,
    and a critic of points in a plane would have to move them before it could tell one place from
    another.
    """

    piecewise_linear = True

    def __init__(
        self, shape: Shape, hidden: Sequence[int] = (128, 128), leak: float = 0.1, classes: int = 0
    ) -> None:
        super().__init__(shape, hidden=tuple(hidden), leak=leak, classes=classes)
        self.sequential = not classes
        widths = [math.prod(shape), *hidden]
        body = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.LeakyReLU(leak))]
        self.layers = nn.Sequential(nn.Flatten(), *body, nn.Linear(widths[-1], 1))
        self.embed = nn.Embedding(classes, widths[-1]) if classes else None
        gan_init(self, leak, bias=1.0)

    @property
    def head(self) -> nn.Module:
        return self.layers[-1]

    def forward(
        self, x: Float[Tensor, "batch *shape"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        return projected(self, self.layers[:-1](x), labels)
