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
from univae.dtypes import at_least_float32
from univae.errors import InputError
from univae.latent.gaussian import diagonal_gaussian
from univae.latent.hierarchy import Choose, Hierarchical, ModuleClimb
from univae.latent.layouts import Flat

__all__ = ["MLPVAE"]


class MLPVAE(ImageModel):
    r"""A fully connected VAE; the defaults are the one-layer model of the IWAE paper.

    .. math:: q(z_1 \mid x)\, q(z_2 \mid z_1) \cdots,
              \qquad p(z_L) \cdots p(z_1 \mid z_2)\, p(x \mid z_1)

    ``hidden[l]`` are the widths between :math:`z_l` (x for the first) and :math:`z_{l+1}`; the
    generative network has the same in reverse. The two-layer model of the paper has
    ``latents=(100, 50), hidden=((200, 200), (100, 100))``.
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
                f"MLPVAE: needs hidden widths for each latent; "
                f"got hidden={hidden} for latents={latents}"
            )
        super().__init__(pixels, latents=latents, hidden=hidden, activation=activation)
        self.latents = latents
        self.latent = latents[-1]
        # Every conditional depends on one neighbouring layer, which Bit-Swap requires.
        self.chain = len(latents) > 1

        inputs = (self.output.feature_count, *latents)
        layers = range(1, len(latents))
        self.first = GaussianMLP((inputs[0], *hidden[0]), latents[0], activation)
        self.up = _BottomUp(
            [GaussianMLP((inputs[i], *hidden[i]), latents[i], activation) for i in layers]
        )
        down = [GaussianMLP((latents[i], *hidden[i][::-1]), inputs[i], activation) for i in layers]
        self.down = _TopDown(down, latents[-1])
        self.decoder = mlp((latents[0], *hidden[0][::-1]), activation)
        # without a bias: the output has one
        self.last = nn.Linear(hidden[0][0], self.output.numbers * pixels.dims, bias=False)
        glorot(self)

    def prior(self) -> Distribution:
        r"""Return :math:`p(z_L) \cdots p(z_1 \mid z_2)`."""
        if not self.chain:
            return super().prior()
        return Hierarchical(ModuleClimb(self.down), Flat(self.latents))

    def posterior(self, x: Float[Tensor, "batch *shape"]) -> Distribution:
        r"""Return :math:`q(z_1 \mid x)\, q(z_2 \mid z_1) \cdots`."""
        q = self.first(self.output.features(x).flatten(1))
        if not self.chain:
            single: Distribution = q
            return single
        climb = ModuleClimb(self.up, (q.base_dist.loc, q.base_dist.scale))
        return Hierarchical(climb, Flat(self.latents), q.batch_shape)

    @property
    def decoded_layers(self) -> range:
        """The layer that the pixels depend on directly: the first."""
        return range(1)

    def decode(self, z: Float[Tensor, "*lead d"]) -> Tensor:
        r"""Return the parameters of every pixel, (\*lead, numbers, \*shape)."""
        flat = self.last(self.decoder(z[..., : self.latents[0]]))
        parameters: Tensor = flat.unflatten(-1, (self.output.numbers, *self.output.pixels.shape))
        return parameters


class _BottomUp(nn.Module):
    r"""The climb of :math:`q(z_1 \mid x)`, of a mean and a scale, then :math:`q(z_{l+1} \mid z_l)`.

    ``laws`` maps each layer to the next.
    """

    def __init__(self, laws: Sequence[nn.Module]) -> None:
        super().__init__()
        self.laws = nn.ModuleList(laws)  # a name in weights files

    def forward(self, choose: Choose, mean: Tensor, scale: Tensor) -> None:
        """Call ``choose`` for every layer, from the first upward."""
        z = choose(0, diagonal_gaussian(mean, scale))
        for layer, conditional in enumerate(self.laws, start=1):
            z = choose(layer, conditional(z))


class _TopDown(nn.Module):
    r"""The climb of :math:`p(z_L) = N(0, I)`, then :math:`p(z_l \mid z_{l+1})`.

    ``laws[l]`` maps layer l + 1 to layer l.
    """

    origin: Tensor

    def __init__(self, laws: Sequence[nn.Module], top: int) -> None:
        super().__init__()
        self.laws = nn.ModuleList(laws)  # a name in weights files
        self.register_buffer("origin", torch.zeros(top), persistent=False)

    def forward(self, choose: Choose) -> None:
        """Call ``choose`` for every layer, from the last downward."""
        origin = at_least_float32(self.origin)
        z = choose(len(self.laws), diagonal_gaussian(origin, torch.ones_like(origin)))
        for layer in reversed(range(len(self.laws))):
            z = choose(layer, self.laws[layer](z))
