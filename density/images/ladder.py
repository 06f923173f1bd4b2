r"""A ladder of latent images: inference runs top-down through the states of generation.

References:
    Ladder Variational Autoencoders (Sønderby et al., 2016), https://arxiv.org/abs/1602.02282
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
    https://arxiv.org/abs/1606.04934, for the top-down state
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.images.base import ImageModel
from density.images.conv import SMALLEST_HALVED
from density.images.layers import ResNet, gaussian, glorot, over_images, zero_conv
from density.likelihoods.head import Pixels
from univae.errors import InputError
from univae.image_shapes import halvings
from univae.latent.hierarchy import Choose, Hierarchical, ModuleClimb
from univae.latent.layouts import Flat

__all__ = ["LadderVAE"]


class LadderVAE(ImageModel):
    r"""A latent image for each resolution, :math:`z_L` the coarsest.

    One state runs top-down. The prior of a layer is a function of it, and the posterior a function
    of it and of the encoder's features of that resolution, as a change of the prior's parameters
    that is initially zero: :math:`q(z_l \mid z_{>l}, x)` against :math:`p(z_l \mid z_{>l})`.
    ``latents`` are channels, from the finest layer, at half the resolution of the image, to the
    coarsest.
    """

    def __init__(
        self, pixels: Pixels, latents: Sequence[int] = (1, 4), width: int = 32, depth: int = 1
    ) -> None:
        latents = tuple(latents)
        super().__init__(pixels, latents=latents, width=width, depth=depth)
        channels = pixels.shape[0]
        shapes = _latent_shapes(pixels, latents)
        self.widths = tuple(c * height * breadth for c, height, breadth in shapes)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width if layer else channels, width, 4, 2, 1), ResNet(width, depth)
            )
            for layer in range(len(shapes))
        )
        self.climb = _Ladder(shapes, width, depth)
        self.last = nn.Sequential(
            nn.GELU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1),
            nn.GELU(),
            nn.Conv2d(width, self.output.numbers * channels, 3, padding=1),
        )
        glorot(self)

    def prior(self) -> Distribution:
        r"""Return :math:`p(z_L) \cdots p(z_1 \mid z_{>1})`."""
        return Hierarchical(ModuleClimb(self.climb), Flat(self.widths))

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        r"""Return :math:`q(z_L \mid x) \cdots q(z_1 \mid z_{>1}, x)`."""
        features = []
        h = self.output.scaled(x)
        for stage in self.encoder:
            h = stage(h)
            features.append(h)
        return Hierarchical(ModuleClimb(self.climb, features), Flat(self.widths), x.shape[:1])

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        r"""Return the parameters of every pixel, (\*lead, numbers, \*shape)."""
        latents = Flat(self.widths).split(z)
        state = self.climb(lambda layer, p: latents[layer])
        channels = over_images(self.last, state)
        parameters: Tensor = channels.unflatten(-3, (self.output.numbers, -1))
        return parameters


def _latent_shapes(pixels: Pixels, latents: tuple[int, ...]) -> list[tuple[int, int, int]]:
    sizes = halvings(pixels.shape, "LadderVAE", SMALLEST_HALVED)[1:]
    if not 1 <= len(latents) <= len(sizes):
        raise InputError(
            f"LadderVAE: latents must be 1..{len(sizes)} numbers for {pixels.shape} images; "
            f"got {len(latents)}; give fewer, or larger images"
        )
    return [(c, *size) for c, size in zip(latents, sizes, strict=False)]


class _Ladder(nn.Module):
    """The climb from the coarsest layer: the posterior with features, else the prior."""

    def __init__(self, shapes: Sequence[tuple[int, int, int]], width: int, depth: int) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.top = nn.Parameter(torch.zeros(width, *shapes[-1][1:]))
        self.expect = nn.ModuleList(_gaussian_parameters(width, c) for c, *_ in shapes)
        self.infer = nn.ModuleList(_gaussian_parameters(width, c) for c, *_ in shapes)
        self.inject = nn.ModuleList(nn.Conv2d(c, width, 1) for c, *_ in shapes)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(width, width, 4, 2, 1) for _ in shapes[1:])
        self.refine = nn.ModuleList(ResNet(width, depth) for _ in shapes)

    def forward(self, choose: Choose, *features: Tensor) -> Float[Tensor, "*lead width h w"]:
        """Call ``choose`` for every layer and return the final state."""
        state: Tensor = self.top
        for layer in reversed(range(len(self.shapes))):
            parameters = over_images(self.expect[layer], state)
            if features:
                change = over_images(self.infer[layer], state + features[layer])
                parameters = parameters + change
            mean, log_scale = parameters.chunk(2, -3)
            z = choose(layer, gaussian(mean.flatten(-3), log_scale.flatten(-3)))

            latent_image = z.to(self.top.dtype).unflatten(-1, self.shapes[layer])
            state = state + over_images(self.inject[layer], latent_image)
            state = self.refine[layer](state)
            if layer:
                state = over_images(self.grow[layer - 1], state)
        return state


def _gaussian_parameters(width: int, channels: int) -> nn.Module:
    """Return layers to the mean and log-scale of a latent image, initially zero."""
    return nn.Sequential(nn.GELU(), zero_conv(width, 2 * channels))
