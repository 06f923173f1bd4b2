r"""Pixels that also look at their neighbours: :math:`p(x \mid z) = \prod_d p(x_d \mid z, x_{<d})` in raster order.

A pixel sees those before it that are near, through one masked convolution and layers of its own, and what the decoder
says of z at its place; the channels of one pixel are independent of each other given both. What the pixels say of each
other is computed once per datum, however many samples of z are scored.

References:
    PixelVAE: A Latent Variable Model for Natural Images (Gulrajani et al., 2017), https://arxiv.org/abs/1611.05013
    Variational Lossy Autoencoder (Chen et al., 2017), https://arxiv.org/abs/1611.02731
    Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), https://arxiv.org/abs/1606.05328
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.types import _size

__all__ = ["Causal", "CausalPixels", "Place"]

Place: TypeAlias = tuple[int, ...]  # row and column of one pixel, or () for all


class Causal(nn.Module):
    """The networks of :class:`CausalPixels`: ``width`` features of z and of the pixels before, added, to ``numbers``.

    ``reach`` is how many rows above, and columns to either side, a pixel sees.
    """

    mask: Tensor

    def __init__(self, channels: int, reach: int, width: int, numbers: int) -> None:
        super().__init__()
        self.channels, self.reach, self.width = channels, reach, width
        self.near = nn.Conv2d(channels, width * channels, (reach + 1, 2 * reach + 1))
        self.layers = nn.Sequential(nn.GELU(), nn.Conv2d(width * channels, width * channels, 1))
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.last = nn.Sequential(nn.GELU(), nn.Linear(width, numbers))
        mask = torch.ones(reach + 1, 2 * reach + 1)
        mask[-1, reach:] = 0  # the pixel itself and those after it
        self.register_buffer("mask", mask, persistent=False)

    def context(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch width c h w"]:
        """What every pixel is told of those before it."""
        return self.windows(F.pad(x, (self.reach, self.reach, self.reach, 0)))

    def windows(self, x: Float[Tensor, "batch c rows columns"]) -> Tensor:
        """The same for the pixels whose whole window lies within ``x``."""
        near = F.conv2d(x, self.near.weight * self.mask, self.near.bias)
        return (near + self.layers(near)).unflatten(1, (self.width, self.channels))

    def numbers(self, features: Float[Tensor, "*lead width c h w"]) -> Float[Tensor, "*lead numbers c h w"]:
        """What a law takes, of the sum of both sides."""
        rows = features.movedim(-4, -1)
        return self.last(rows + self.mix(rows)).movedim(-1, -4)


class CausalPixels(Distribution):
    r"""The law of images given features (\*batch, width, channels, height, width of the image) of z.

    ``law(numbers, place)`` makes the law of all pixels, or of those at one place, from the ``numbers`` of ``net``;
    ``scaled(x)`` is x as a network likes it. A density costs one pass; a draw goes from pixel to pixel.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        features: Tensor,
        net: Causal,
        law: Callable[[Tensor, Place], Distribution],
        scaled: Callable[[Tensor], Tensor],
    ) -> None:
        self.features, self.net, self.law, self.scaled = features, net, law, scaled
        super().__init__(features.shape[:-4], features.shape[-3:], validate_args=False)

    def log_prob(self, value: Float[Tensor, "*data c h w"]) -> Float[Tensor, "*lead"]:
        flat = self.scaled(value).reshape(-1, *value.shape[-3:])
        context = self.net.context(flat).reshape(*value.shape[:-3], *self.features.shape[-4:])
        return self.law(self.net.numbers(self.features + context), ()).log_prob(value)

    @torch.no_grad()
    def sample(self, sample_shape: _size = ()) -> Tensor:
        lead = Size(sample_shape) + self.batch_shape
        features = self.features.expand(*lead, *self.features.shape[-4:]).reshape(-1, *self.features.shape[-4:])
        (_, _, height, breadth), reach = features.shape[1:], self.net.reach
        x = self.features.new_zeros(len(features), *self.event_shape)
        seen = F.pad(torch.zeros_like(x), (reach, reach, reach, 0))  # scaled; beyond the image as in training
        for row in range(height):
            for column in range(breadth):
                window = seen[..., row : row + reach + 1, column : column + 2 * reach + 1]
                here = features[..., row, column, None, None] + self.net.windows(window)
                law = self.law(self.net.numbers(here)[..., 0, 0], (row, column))
                x[..., row, column] = law.sample().to(x.dtype)
                seen[..., row + reach, column + reach] = self.scaled(x)[..., row, column]
        return x.reshape(lead + self.event_shape)
