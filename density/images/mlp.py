"""A fully connected VAE with one or more stochastic layers.

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from density.images.base import ImageModel
from density.images.layers import Activation, GaussianMLP, glorot, mlp
from density.likelihoods.head import Pixels
from univae.errors import InputError
from univae.latent.gaussian import diagonal_gaussian
from univae.latent.hierarchy import Choose, Hierarchy

__all__ = ["MLPVAE"]


class MLPVAE(ImageModel):
    r"""Fully connected, with one or more stochastic layers; the defaults are the one-layer model of the IWAE paper.

    .. math:: q(z_1 \mid x)\, q(z_2 \mid z_1) \cdots, \qquad p(z_L) \cdots p(z_1 \mid z_2)\, p(x \mid z_1)

    ``hidden[l]`` are the widths between :math:`z_l` (x for the first) and :math:`z_{l+1}`; the
    generative network mirrors them. The two-layer model of the paper is ``latents=(100, 50),
    hidden=((200, 200), (100, 100))``.
    """

    def __init__(
        self,
        pixels: Pixels,
        latents: Sequence[int] = (50,),
        hidden: Sequence[Sequence[int]] = ((200, 200),),
        activation: Activation = "tanh",
    ) -> None:
        latents = tuple(latents)
        hidden = tuple(tuple(widths) for widths in hidden)
        if not latents or len(latents) != len(hidden) or not all(hidden):
            raise InputError(
                f"MLPVAE: needs hidden widths for each latent; got hidden={hidden} for latents={latents}"
            )
        super().__init__(pixels, latents=latents, hidden=hidden, activation=activation)
        self.latents = latents
        self.latent = latents[-1]
        self.chain = len(latents) > 1  # every law looks at one neighbour, which Bit-Swap needs
        below = (pixels.dims, *latents)
        self.first = GaussianMLP((below[0], *hidden[0]), latents[0], activation)
        layers = range(1, len(latents))
        self.up = _BottomUp(
            [GaussianMLP((below[i], *hidden[i]), latents[i], activation) for i in layers]
        )
        down = [GaussianMLP((latents[i], *hidden[i][::-1]), below[i], activation) for i in layers]
        self.down = _TopDown(down, latents[-1])
        self.decoder = mlp((latents[0], *hidden[0][::-1]), activation)
        # the output has one
        self.last = nn.Linear(hidden[0][0], self.output.numbers * pixels.dims, bias=False)
        glorot(self)

    def prior(self) -> Distribution:
        return super().prior() if len(self.latents) == 1 else Hierarchy(self.down, self.latents)

    def posterior(self, x: Float[Tensor, "batch *shape"]) -> Distribution:
        law = self.first(self.output.scaled(x).flatten(1))
        if len(self.latents) == 1:
            return law
        return Hierarchy(
            self.up, self.latents, law.batch_shape, (law.base_dist.loc, law.base_dist.scale)
        )

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
    r"""Climbs :math:`p(z_L) = N(0, I)`, then :math:`p(z_l \mid z_{l+1})`.

    ``laws[l]`` is of layer l.
    """

    origin: Tensor

    def __init__(self, laws: Sequence[nn.Module], top: int) -> None:
        super().__init__()
        self.laws = nn.ModuleList(laws)
        self.register_buffer("origin", torch.zeros(top), persistent=False)

    def forward(self, choose: Choose) -> None:
        z = choose(len(self.laws), diagonal_gaussian(self.origin, torch.ones_like(self.origin)))
        for layer in reversed(range(len(self.laws))):
            z = choose(layer, self.laws[layer](z))
