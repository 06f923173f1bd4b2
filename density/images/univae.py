r"""The text model on images, whose words are patches of pixels in raster order.

The number of words is fixed, so the distribution of the words is one of images,

.. math:: p(x \mid z) = \prod_t p(w_t(x) \mid z, w_{<t}(x)), \qquad \sum_x p(x \mid z) = 1.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
    Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    PixelVAE (Gulrajani et al., 2017), https://arxiv.org/abs/1611.05013
"""

from collections.abc import Collection, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from density.images.base import DataModel
from density.images.patch_words import PatchWords
from density.likelihoods.distributions import BINARY, Nats
from density.likelihoods.head import Pixels
from univae.text.special import RESERVED
from univae.vae.grid import Grid
from univae.vae.likelihood import TextLikelihood
from univae.vae.model import Elbo, UniVAE, UniVAEConfig

__all__ = ["PatchLikelihood", "PatchVAE"]

LATENT_DIMS = 2  # (layers, d)
IDS_DIMS = 2  # (batch, cells)


class PatchLikelihood(Distribution):
    """The distribution of images given latents: that of their words.

    ``log_prob`` and ``sample`` broadcast; images with one leading axis run the layers below the
    latents once for all samples. The pixels are dependent, so it has no ``mean``.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    nats: ClassVar[Nats] = "mass"

    def __init__(
        self, model: UniVAE, patches: PatchWords, z: Float[Tensor, "*lead layers d"]
    ) -> None:
        self.model = model
        self.patches = patches
        self.z = z
        batch_shape = z.shape[:-LATENT_DIMS]
        super().__init__(batch_shape, Size(patches.pixels.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Float[Tensor, "*lead"]:
        """Return the log-probability of images in nats."""
        ids = self.patches.to_ids(value)
        if ids.dim() == IDS_DIMS and self.z.dim() > LATENT_DIMS:
            return self._words(self.z).log_prob(ids)
        lead = torch.broadcast_shapes(ids.shape[:-1], self.batch_shape)
        ids = ids.expand(*lead, -1).reshape(-1, ids.shape[-1])
        return self._words(self._flat_latents(lead)).log_prob(ids).view(lead)

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw images word by word."""
        lead = Size(sample_shape) + self.batch_shape
        ids = self._words(self._flat_latents(lead)).sample()
        return self.patches.to_images(ids).view(*lead, *self.event_shape)

    def _flat_latents(self, lead: Size) -> Tensor:
        event_shape = self.z.shape[-LATENT_DIMS:]
        return self.z.expand(*lead, *event_shape).reshape(-1, *event_shape)

    def _words(self, z: Tensor) -> TextLikelihood:
        return self.model.likelihood(z)


class PatchVAE(DataModel):
    """A :class:`univae.vae.UniVAE` whose texts are images; latents are (..., B, layers, latent).

    Args:
        pixels: shape and levels of the images.
        patch: rows and columns of a patch.
        width: the features of a word.
        heads: the attention heads of a layer.
        layers: the layers of the encoder and of the decoder.
        latent_layers: the last layers, each with a latent.
        latent: the width of a latent.
        near: the rows and columns of earlier patches in the input of a patch's prediction.
    """

    output: PatchWords

    def __init__(
        self,
        pixels: Pixels,
        patch: Sequence[int] = (2, 2),
        width: int = 64,
        heads: int = 2,
        layers: int = 3,
        latent_layers: int = 2,
        latent: int = 16,
        near: int = 2,
    ) -> None:
        super().__init__()
        rows, columns = patch  # JSON has lists
        self.config = {
            "model": "PatchVAE",
            "pixels": pixels.to_json(),
            "width": width,
            "heads": heads,
            "layers": layers,
            "latent_layers": latent_layers,
            "patch": (rows, columns),
            "latent": latent,
            "near": near,
        }
        self.output = PatchWords(pixels, (rows, columns))
        config = UniVAEConfig(
            RESERVED + self.output.word_count,
            width=width,
            heads=heads,
            layers=layers,
            latent_layers=latent_layers,
            latent_width=latent,
            max_length=self.output.cells,
        )
        self.text = UniVAE(config, Grid(*self.output.grid, near))

    @property
    def positions(self) -> int:
        """The number of words of an image: the decoder steps of one sample."""
        return self.output.cells

    def prior(self) -> Distribution:
        """Return p(z)."""
        return self.text.prior()

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z | x) of images (B, channels, height, width)."""
        return self.text.posterior(self.output.to_ids(x))

    def likelihood(self, z: Float[Tensor, "*lead layers d"]) -> PatchLikelihood:
        """Return p(x | z)."""
        return PatchLikelihood(self.text, self.output, z)

    @property
    def layer_count(self) -> int:
        """The number of latent layers."""
        return self.text.config.latent_layers

    def resample(self, z: Tensor, layers: Collection[int]) -> Tensor:
        r"""Draw some layers of latents (\*lead, layers, d) from the prior; keep the others."""
        return self.text.resample(z, layers)

    def elbo(self, x: Tensor) -> Elbo:
        """Draw one latent per image and return both terms of the bound, as the text model does."""
        return self.text.elbo(self.output.to_ids(x))

    @torch.no_grad()
    def match_marginals(self, x: Tensor) -> None:
        """Set the output bias to the log-frequencies of the words in the images x, plus one each.

        Values between 0 and 1 of binary pixels are probabilities, which are sampled once.
        """
        if self.output.pixels.levels == BINARY:
            x = torch.bernoulli(x)
        ids = self.output.to_ids(x).flatten() - RESERVED
        counts = torch.bincount(ids, minlength=self.output.word_count) + 1
        bias = self.text.head.bias
        bias[RESERVED:] = (counts / counts.sum()).log().to(bias)
