r"""Generators and critics of vectors and images, built from plain values kept in ``config``; :func:`build` makes them.

A generator takes latents (B, d), a critic data (B, \*shape) with images in [-1, 1]; with ``classes`` both take labels
(B,) besides: a generator turns them into gains of its norms or a part of its latent, a critic adds the projection
:math:`\langle v_y, h(x) \rangle` to its score. Critics have no norm of any kind but in :class:`AttentionCritic`: a
score must depend on its own sample alone, and on it piecewise linearly for the bounds of gradient normalisation.

References:
    Unsupervised Representation Learning with DCGANs (Radford et al., 2015), https://arxiv.org/abs/1511.06434
    Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), https://arxiv.org/abs/1802.05957
    cGANs with Projection Discriminator (Miyato & Koyama, 2018), https://arxiv.org/abs/1802.05637
    Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock et al., 2018), https://arxiv.org/abs/1809.11096
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gan.attention import AttentionCritic, AttentionGenerator
from gan.parts import ConditionalNorm, Network, Shape, gan_init, projected, sizes
from gan.residual import ResNetCritic, ResNetGenerator
from univae.errors import InputError

__all__ = [
    "AttentionCritic",
    "AttentionGenerator",
    "ConvCritic",
    "ConvGenerator",
    "MLPCritic",
    "MLPGenerator",
    "ResNetCritic",
    "ResNetGenerator",
    "build",
]


class MLPGenerator(Network):
    """Fully connected; data of any shape, within [-1, 1] if ``bounded``."""

    def __init__(
        self, shape: Shape, latent: int = 64, hidden: Sequence[int] = (128, 128), bounded: bool = True, classes: int = 0
    ) -> None:
        super().__init__(shape, latent=latent, hidden=tuple(hidden), bounded=bounded, classes=classes)
        widths = [latent + classes, *hidden]
        body = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*body, nn.Linear(widths[-1], math.prod(shape)))
        self.out = nn.Tanh() if bounded else nn.Identity()

    def forward(self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None) -> Tensor:
        if self.classes:
            z = torch.cat((z, nn.functional.one_hot(self.labels(labels), self.classes).to(z)), 1)
        return self.out(self.layers(z)).unflatten(1, self.shape)


class MLPCritic(Network):
    """Fully connected with leaky ReLUs: piecewise linear, and one chain of layers.

    Biases start within [-1, 1]. Were they 0, the kinks of all units would pass through the origin, and a critic of
    points in a plane would have to move them before it could tell one place from another.
    """

    piecewise_linear = True

    def __init__(self, shape: Shape, hidden: Sequence[int] = (128, 128), leak: float = 0.1, classes: int = 0) -> None:
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


class ConvGenerator(Network):
    r"""A DCGAN generator: a linear layer to the smallest image, doublings by transposed convolutions, tanh.

    ``width`` channels at full size and twice as many per halving, 8 ``width`` at most.
    """

    def __init__(self, shape: Shape, latent: int = 64, width: int = 32, classes: int = 0) -> None:
        super().__init__(shape, latent=latent, width=width, classes=classes)
        found = sizes(shape, "ConvGenerator")
        widths = [width * min(2**i, 8) for i in reversed(range(len(found)))]
        self.first = nn.Linear(latent, widths[0] * math.prod(found[-1]))
        self.smallest = (widths[0], *found[-1])
        self.norms = nn.ModuleList(ConditionalNorm(w, classes) for w in widths)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], shape[0], 3, padding=1)
        gan_init(self, 0.0)

    def forward(self, z: Float[Tensor, "batch latent"], labels: Int[Tensor, "batch"] | None = None) -> Tensor:
        labels = self.labels(labels) if self.classes else None
        h = self.first(z).unflatten(1, self.smallest)
        for norm, up in zip(self.norms, (*self.ups, self.last), strict=True):
            h = up(norm(h, labels).relu())
        return h.tanh()


class ConvCritic(Network):
    """The critic of SN-DCGAN: convolutions with leaky ReLUs, halving the image, no norm; one chain of layers."""

    piecewise_linear = True

    def __init__(self, shape: Shape, width: int = 32, leak: float = 0.1, classes: int = 0) -> None:
        super().__init__(shape, width=width, leak=leak, classes=classes)
        self.sequential = not classes
        found = sizes(shape, "ConvCritic")
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


NETWORKS: dict[str, Callable[..., Network]] = {
    kind.__name__: kind
    for kind in (
        MLPGenerator,
        MLPCritic,
        ConvGenerator,
        ConvCritic,
        ResNetGenerator,
        ResNetCritic,
        AttentionGenerator,
        AttentionCritic,
    )
}


def build(config: Mapping[str, Any]) -> Network:
    """Makes the network that a ``config`` describes, also one that was stored as JSON; its weights start anew."""
    rest = dict(config)
    kind, shape = rest.pop("network", None), tuple(rest.pop("shape", ()))
    if kind not in NETWORKS:
        raise InputError(f"build: network must be one of {', '.join(NETWORKS)}; got {kind!r}")
    try:
        return NETWORKS[kind](shape, **rest)
    except TypeError as error:
        raise InputError(f"build: a configuration of another version ({error}); train anew") from error
