r"""Image and table models with the three laws of a ``LatentModel``: perceptron, convolutions, attention, a ladder.

Every model is built from plain values, kept in ``config``: :func:`build` makes the same model again, for weights to be
loaded into. Data x are (B, \*shape) as :mod:`density.output` says; latents z are flat, (\*sample, B, d); the encoder
runs once per :meth:`posterior`.

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
    Ladder Variational Autoencoders (Sønderby et al., 2016), https://arxiv.org/abs/1602.02282
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.hierarchy import Choose, Hierarchy
from density.image_model import ImageModel, halvings, image_shape
from density.ladder import LadderVAE
from density.networks import Activation, GaussianMLP, Patches, ResNet, glorot, mlp
from density.output import Pixels
from univae.errors import InputError
from univae.latent import diagonal_gaussian

__all__ = ["MLPVAE", "AttentionVAE", "ConvVAE", "LadderVAE", "build"]


class MLPVAE(ImageModel):
    r"""Fully connected, with one or more stochastic layers; the defaults are the one-layer model of the IWAE paper.

    .. math:: q(z_1 \mid x)\, q(z_2 \mid z_1) \cdots, \qquad p(z_L) \cdots p(z_1 \mid z_2)\, p(x \mid z_1)

    ``hidden[l]`` are the widths between :math:`z_l` (x for the first) and :math:`z_{l+1}`; the generative network
    mirrors them. The two-layer model of the paper is ``latents=(100, 50), hidden=((200, 200), (100, 100))``.
    """

    def __init__(
        self,
        pixels: Pixels,
        latents: Sequence[int] = (50,),
        hidden: Sequence[Sequence[int]] = ((200, 200),),
        activation: Activation = "tanh",
    ) -> None:
        latents, hidden = tuple(latents), tuple(tuple(widths) for widths in hidden)
        if not latents or len(latents) != len(hidden) or not all(hidden):
            raise InputError(f"MLPVAE: needs hidden widths for each latent; got hidden={hidden} for latents={latents}")
        super().__init__(pixels, latents=latents, hidden=hidden, activation=activation)
        self.latents, self.latent = latents, latents[-1]
        self.chain = len(latents) > 1  # every law looks at one neighbour, which Bit-Swap needs
        below = (pixels.dims, *latents)
        self.first = GaussianMLP((below[0], *hidden[0]), latents[0], activation)
        layers = range(1, len(latents))
        self.up = _BottomUp([GaussianMLP((below[i], *hidden[i]), latents[i], activation) for i in layers])
        down = [GaussianMLP((latents[i], *hidden[i][::-1]), below[i], activation) for i in layers]
        self.down = _TopDown(down, latents[-1])
        self.decoder = mlp((latents[0], *hidden[0][::-1]), activation)
        self.last = nn.Linear(hidden[0][0], self.output.numbers * pixels.dims, bias=False)  # the output has one
        glorot(self)

    def prior(self) -> Distribution:
        return super().prior() if len(self.latents) == 1 else Hierarchy(self.down, self.latents)

    def posterior(self, x: Float[Tensor, "batch *shape"]) -> Distribution:
        law = self.first(self.output.scaled(x).flatten(1))
        if len(self.latents) == 1:
            return law
        return Hierarchy(self.up, self.latents, law.batch_shape, (law.base_dist.loc, law.base_dist.scale))

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        raw = self.last(self.decoder(z[..., : self.latents[0]]))
        return raw.unflatten(-1, (self.output.numbers, *self.output.pixels.shape))


class _BottomUp(nn.Module):
    r"""Climbs :math:`q(z_1 \mid x)`, given by mean and scale, then :math:`q(z_{l+1} \mid z_l)`."""

    def __init__(self, laws: Sequence[nn.Module]) -> None:
        super().__init__()
        self.laws = nn.ModuleList(laws)

    def forward(self, choose: Choose, mean: Tensor, scale: Tensor) -> None:
        z = choose(0, diagonal_gaussian(mean, scale))
        for layer, law in enumerate(self.laws, start=1):
            z = choose(layer, law(z))


class _TopDown(nn.Module):
    r"""Climbs :math:`p(z_L) = N(0, I)`, then :math:`p(z_l \mid z_{l+1})`; ``laws[l]`` is of layer l."""

    origin: Tensor

    def __init__(self, laws: Sequence[nn.Module], top: int) -> None:
        super().__init__()
        self.laws = nn.ModuleList(laws)
        self.register_buffer("origin", torch.zeros(top), persistent=False)

    def forward(self, choose: Choose) -> None:
        z = choose(len(self.laws), diagonal_gaussian(self.origin, torch.ones_like(self.origin)))
        for layer in reversed(range(len(self.laws))):
            z = choose(layer, self.laws[layer](z))


class ConvVAE(ImageModel):
    """Residual convolutions, halving the image while both sides are even and one is above 4, and one latent vector.

    Made for 1 or 3 channels and sides from 8 to 64.
    """

    def __init__(self, pixels: Pixels, latent: int = 32, width: int = 32, depth: int = 1) -> None:
        super().__init__(pixels, latent=latent, width=width, depth=depth)
        self.latent = latent
        channels, *_ = image_shape(pixels, "ConvVAE")
        sizes = halvings(pixels, "ConvVAE")[1:]
        height, breadth = sizes[-1]
        inputs, flat = [channels] + [width] * (len(sizes) - 1), width * height * breadth
        smaller = [part for c in inputs for part in (nn.Conv2d(c, width, 4, 2, 1), ResNet(width, depth))]
        self.encoder = nn.Sequential(*smaller, nn.GELU(), nn.Flatten())
        self.head = GaussianMLP((flat,), latent, "gelu")
        larger = [part for _ in sizes for part in (ResNet(width, depth), nn.ConvTranspose2d(width, width, 4, 2, 1))]
        self.decoder = nn.Sequential(
            nn.Linear(latent, flat),
            nn.Unflatten(1, (width, height, breadth)),
            *larger,
            nn.GELU(),
            nn.Conv2d(width, self.output.numbers * channels, 3, padding=1),
        )
        glorot(self)

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        return self.head(self.encoder(self.output.scaled(x)))

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        return self.decoder(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], -1, *self.output.pixels.shape)


class AttentionVAE(ImageModel):
    """Square patches through the shared attention core, both ways, and one latent vector.

    The encoder reads the latent off the rows of all patches side by side; the decoder spreads z over them in the same
    way. A road that every patch has to itself starts learning at once; one shared row stays silent for long.
    """

    def __init__(
        self, pixels: Pixels, latent: int = 32, patch: int = 4, width: int = 64, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__(pixels, latent=latent, patch=patch, width=width, heads=heads, layers=layers)
        channels, height, breadth = image_shape(pixels, "AttentionVAE")
        if height % patch or breadth % patch:
            raise InputError(
                f"AttentionVAE: patch must divide both sides; got patch={patch}, {height}x{breadth} pixels"
            )
        self.latent, grid = latent, (height // patch, breadth // patch)
        self.cut = nn.Unfold(patch, stride=patch)  # (N, c, h, w) to (N, c patch^2, patches)
        self.paste = nn.Fold((height, breadth), patch, stride=patch)
        self.embed = nn.Linear(channels * patch**2, width)
        self.encoder = Patches(grid, width, heads, layers)
        self.head = GaussianMLP((math.prod(grid) * width,), latent, "gelu")
        self.spread = nn.Linear(latent, math.prod(grid) * width)
        self.decoder = Patches(grid, width, heads, layers)
        self.last = nn.Linear(width, self.output.numbers * channels * patch**2)
        for part in (self.embed, self.head, self.spread, self.last):
            glorot(part)

    def posterior(self, x: Float[Tensor, "batch c h w"]) -> Distribution:
        rows = self.embed(self.cut(self.output.scaled(x)).mT)
        return self.head(self.encoder(rows).flatten(1))

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        rows = self.spread(z.reshape(-1, z.shape[-1])).unflatten(-1, (-1, self.last.in_features))
        return self.paste(self.last(self.decoder(rows)).mT).reshape(*z.shape[:-1], -1, *self.output.pixels.shape)


MODELS: dict[str, Callable[..., ImageModel]] = {
    kind.__name__: kind for kind in (MLPVAE, ConvVAE, AttentionVAE, LadderVAE)
}


def build(config: Mapping[str, Any]) -> ImageModel:
    """Makes the model that a ``config`` describes, also one that was stored as JSON; its weights start anew."""
    rest = dict(config)
    kind, pixels = rest.pop("model", None), dict(rest.pop("pixels", {}))
    if kind not in MODELS:
        raise InputError(f"build: model must be one of {', '.join(MODELS)}; got {kind!r}")
    try:
        shape = tuple(pixels.pop("shape", ()))  # JSON has lists
        return MODELS[kind](Pixels(shape, **pixels), **rest)
    except TypeError as error:
        raise InputError(f"build: a configuration of another version ({error}); train anew") from error
