r"""The text model on images: patches of pixels, in raster order, are the words of a text of fixed length.

A patch of h x w pixels of L levels and c channels is one of :math:`L^{h w c}` words, its first
pixel the lowest digit. Patches of one pixel are a word per channel instead, so that images of many
levels have a vocabulary too. Every word is a patch and no text ends early, so the law of the words
is one of images,

.. math:: p(x \mid z) = \prod_t p(w_t(x) \mid z, w_{<t}(x)), \qquad \sum_x p(x \mid z) = 1.

References:
    UniVAE (Su, 2021), https://kexue.fm/archives/8475
    Pixel Recurrent Neural Networks (van den Oord et al., 2016), https://arxiv.org/abs/1601.06759
    PixelVAE (Gulrajani et al., 2017), https://arxiv.org/abs/1611.05013
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from density.images.base import DataModel
from density.likelihoods.head import Pixels
from density.likelihoods.distributions import Nats, check_levels
from univae.errors import InputError
from univae.image_shapes import image_shape
from univae.latent.hierarchy import Layered
from univae.text.special import RESERVED
from univae.vae.grid import Grid
from univae.vae.likelihood import TextLikelihood
from univae.vae.model import Elbo, UniVAE, UniVAEConfig

__all__ = ["PatchLikelihood", "PatchVAE", "Patches", "word_count"]

WORDS = 65_536  # the largest vocabulary: a table of more rows would hold patches that no data show


def word_count(pixels: Pixels, patch: tuple[int, int]) -> int:
    """How many patches of so many rows and columns there are; one pixel is a patch per channel."""
    channels, *_ = image_shape(pixels, "PatchVAE")
    area = math.prod(patch)
    return pixels.levels ** (area * channels if area > 1 else 1)


class Patches(nn.Module):
    """Images (B, channels, height, width) of whole levels to words (B, cells) and back; ids follow the reserved ones.

    Raises:
        InputError: for sides that do not divide the image's, for too many words, and for
            real-valued data.
    """

    digits: Tensor

    def __init__(self, pixels: Pixels, patch: tuple[int, int]) -> None:
        super().__init__()
        self.pixels = pixels
        self.patch = patch
        channels, height, breadth = image_shape(pixels, "PatchVAE")
        if pixels.likelihood not in ("bernoulli", "categorical"):
            raise InputError(
                f"PatchVAE: patches are words, whose law is bernoulli or categorical; got {pixels.likelihood}; "
                "choose one of them, and data of whole levels"
            )
        if min(patch) < 1 or height % patch[0] or breadth % patch[1]:
            raise InputError(
                f"PatchVAE: a patch must divide the image; got patch={patch[0]}x{patch[1]}, {height}x{breadth} pixels"
            )
        self.words = word_count(pixels, patch)
        if self.words > WORDS:
            raise InputError(
                f"PatchVAE: {pixels.levels} levels make {self.words} words of {patch[0]}x{patch[1]} pixels and "
                f"{channels} channels, at most {WORDS} are allowed; choose patch=1, a word per pixel and channel, "
                "or binarise"
            )
        self.parts = channels if math.prod(patch) == 1 else 1  # words of a patch
        self.grid = (height // patch[0], breadth // patch[1] * self.parts)
        length = math.prod(patch) * channels // self.parts
        self.register_buffer("digits", pixels.levels ** torch.arange(length), persistent=False)

    @property
    def cells(self) -> int:
        """Words of an image."""
        return math.prod(self.grid)

    def cut(self, x: Tensor) -> Int[Tensor, "*lead cells"]:
        r"""The ids of images (\*lead, channels, height, width).

        :class:`InputError` where these hold no levels.
        """
        check_levels("PatchVAE", x, Size(self.pixels.shape), self.pixels.levels)
        tall, broad = self.patch
        # channels, rows, tall, columns, broad
        tiles = x.long().unflatten(-1, (-1, broad)).unflatten(-3, (-1, tall))
        tiles = tiles.movedim((-4, -2), (-5, -4))  # rows, columns, channels, tall, broad
        values = tiles.flatten(-3).unflatten(-1, (self.parts, -1)).flatten(-4, -2)
        return (values * self.digits).sum(-1) + RESERVED

    def paste(self, ids: Int[Tensor, "*lead cells"]) -> Tensor:
        """The images of ids, levels as floats of the default dtype: the inverse of :meth:`cut`."""
        values = ((ids - RESERVED).unsqueeze(-1) // self.digits) % self.pixels.levels
        rows = self.grid[0]
        columns = self.grid[1] // self.parts
        tiles = (
            values.unflatten(-2, (rows, columns, self.parts))
            .flatten(-2)
            .unflatten(-1, (-1, *self.patch))
        )
        tiles = tiles.movedim((-5, -4), (-4, -2))
        return tiles.flatten(-2).flatten(-3, -2).to(torch.get_default_dtype())


class PatchLikelihood(Distribution):
    """The law of images given latents: that of their words. The pixels depend on each other, so it has no cheap mean.

    ``log_prob`` and ``sample`` broadcast as every law does; images with one leading axis run the
    layers below the latents once for all samples.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    nats: ClassVar[Nats] = "mass"

    def __init__(self, model: UniVAE, patches: Patches, z: Float[Tensor, "*lead layers d"]) -> None:
        self.model = model
        self.patches = patches
        self.z = z
        super().__init__(z.shape[:-2], Size(patches.pixels.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Float[Tensor, "*lead"]:
        ids = self.patches.cut(value)
        if ids.dim() == 2 and self.z.dim() > 2:
            return self._law(self.z).log_prob(ids)
        lead = torch.broadcast_shapes(ids.shape[:-1], self.batch_shape)
        z = self.z.expand(*lead, *self.z.shape[-2:]).reshape(-1, *self.z.shape[-2:])
        ids = ids.expand(*lead, -1).reshape(-1, ids.shape[-1])
        return self._law(z).log_prob(ids).view(lead)

    def sample(self, sample_shape: Sequence[int] = Size()) -> Tensor:
        """Draw images word by word."""
        lead = Size(sample_shape) + self.batch_shape
        z = self.z.expand(*lead, *self.z.shape[-2:]).reshape(-1, *self.z.shape[-2:])
        return self.patches.paste(self._law(z).sample()).view(*lead, *self.event_shape)

    def _law(self, z: Tensor) -> TextLikelihood:
        return self.model.likelihood(z)


class PatchVAE(DataModel):
    """A :class:`univae.vae.UniVAE` whose texts are images: latents are (..., B, latent layers, latent width).

    ``near`` counts the rows and columns of patches around one that its prediction starts from.
    """

    output: Patches

    def __init__(
        self,
        pixels: Pixels,
        patch: tuple[int, int] = (2, 2),
        width: int = 64,
        heads: int = 2,
        layers: int = 3,
        latent_layers: int = 2,
        latent: int = 16,
        near: int = 2,
    ) -> None:
        super().__init__()
        patch = (patch[0], patch[1])  # JSON has lists
        own: dict[str, Any] = {
            "width": width,
            "heads": heads,
            "layers": layers,
            "latent_layers": latent_layers,
        }
        rest = {"patch": patch, "latent": latent, "near": near}
        self.config = {"model": "PatchVAE", "pixels": asdict(pixels), **own, **rest}
        self.output = patches = Patches(pixels, patch)
        shape = UniVAEConfig(
            RESERVED + patches.words, latent_width=latent, max_length=patches.cells, **own
        )
        self.text = UniVAE(shape, Grid(*patches.grid, near))

    @property
    def positions(self) -> int:
        """Words of an image: what one draw of it costs."""
        return self.output.cells

    def prior(self) -> Distribution:
        return self.text.prior()

    def posterior(self, x: Tensor) -> Layered:
        return self.text.posterior(self.output.cut(x))

    def likelihood(self, z: Float[Tensor, "*lead layers d"]) -> PatchLikelihood:
        return PatchLikelihood(self.text, self.output, z)

    def elbo(self, x: Tensor) -> Elbo:
        """Draw one latent an image and returns both terms of the bound: see :meth:`univae.vae.UniVAE.elbo`."""
        return self.text.elbo(self.output.cut(x))

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Start at how often each word occurs in the data x, one more each.

        Shares of white are drawn once.
        """
        ids = self.output.cut(torch.bernoulli(x) if self.output.pixels.levels == 2 else x)
        counts = torch.bincount(ids.flatten() - RESERVED, minlength=self.output.words) + 1
        self.text.head.bias[RESERVED:] = (counts / counts.sum()).log().to(self.text.head.bias)
