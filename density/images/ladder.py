r"""A ladder of latent images: inference descends through the same states as generation.

References:
    Ladder Variational Autoencoders (Sønderby et al., 2016), https://arxiv.org/abs/1602.02282
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
    https://arxiv.org/abs/1606.04934, for the state that runs top-down
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.images.base import ImageModel
from density.images.layers import ResNet, gaussian, glorot, over_images, silent
from density.likelihoods.head import Pixels
from univae.errors import InputError
from univae.image_shapes import halvings, image_shape
from univae.latent.hierarchy import Choose, Hierarchy

__all__ = ["LadderVAE"]


class LadderVAE(ImageModel):
    r"""A latent image per resolution, :math:`z_L` the coarsest; inference descends as generation does.

    One state runs top-down; from it the prior of a layer is read, and, with the encoder's features
    of that resolution added, the posterior, as a change of the prior that starts at none:
    :math:`q(z_l \mid z_{>l}, x)` against :math:`p(z_l \mid z_{>l})`. ``latents`` are channels, from
    the finest layer, at half the resolution of the image, to the coarsest.
    """

    def __init__(
        self, pixels: Pixels, latents: Sequence[int] = (1, 4), width: int = 32, depth: int = 1
    ) -> None:
        latents = tuple(latents)
        super().__init__(pixels, latents=latents, width=width, depth=depth)
        channels, *_ = image_shape(pixels, "LadderVAE")
        sizes = halvings(pixels, "LadderVAE")[1:]
        if not 1 <= len(latents) <= len(sizes):
            raise InputError(
                f"LadderVAE: {pixels.shape} halves {len(sizes)} times, a latent each; got {len(latents)} latents; "
                "give fewer, or larger images"
            )
        shapes = [(c, *size) for c, size in zip(latents, sizes, strict=False)]
        self.widths = [c * height * breadth for c, height, breadth in shapes]
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
        return Hierarchy(self.climb, self.widths)

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        features = []
        h = self.output.scaled(x)
        for stage in self.encoder:
            h = stage(h)
            features.append(h)
        return Hierarchy(self.climb, self.widths, x.shape[:1], features)

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        parts = z.split(self.widths, -1)
        raw = over_images(self.last, self.climb(lambda layer, law: parts[layer]))
        return raw.unflatten(-3, (self.output.numbers, -1))


class _Ladder(nn.Module):
    """Climbs from the coarsest layer to the finest: the posterior when given features, the prior without."""

    def __init__(self, shapes: Sequence[tuple[int, int, int]], width: int, depth: int) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.top = nn.Parameter(torch.zeros(width, *shapes[-1][1:]))
        self.expect = nn.ModuleList(_law(width, c) for c, *_ in shapes)
        self.infer = nn.ModuleList(_law(width, c) for c, *_ in shapes)
        self.inject = nn.ModuleList(nn.Conv2d(c, width, 1) for c, *_ in shapes)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(width, width, 4, 2, 1) for _ in shapes[1:])
        self.refine = nn.ModuleList(ResNet(width, depth) for _ in shapes)

    def forward(self, choose: Choose, *features: Tensor) -> Float[Tensor, "*lead width h w"]:
        state: Tensor = self.top
        for layer in reversed(range(len(self.shapes))):
            numbers = over_images(self.expect[layer], state)
            if features:
                numbers = numbers + over_images(self.infer[layer], state + features[layer])
            mean, log_scale = (part.flatten(-3) for part in numbers.chunk(2, -3))
            z = choose(layer, gaussian(mean, log_scale))
            state = state + over_images(self.inject[layer], z.unflatten(-1, self.shapes[layer]))
            state = self.refine[layer](state)
            if layer:
                state = over_images(self.grow[layer - 1], state)
        return state


def _law(width: int, channels: int) -> nn.Module:
    """Mean and log-scale of a latent image, zero at the start."""
    return nn.Sequential(nn.GELU(), silent(width, 2 * channels))
