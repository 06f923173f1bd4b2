r"""Autoregressive pixels: :math:`p(x \mid z) = \prod_d p(x_d \mid z, x_{<d})` in raster order.

A pixel depends on those before it within ``reach``, through one masked convolution, and on the
decoder's features of z at its position; the channels of one pixel are independent of each other
given both. The features of the neighbours are computed once per image, however many samples of z
are scored.

References:
    PixelVAE: A Latent Variable Model for Natural Images (Gulrajani et al., 2017),
        https://arxiv.org/abs/1611.05013
    Variational Lossy Autoencoder (Chen et al., 2017), https://arxiv.org/abs/1611.02731
    Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016),
        https://arxiv.org/abs/1606.05328
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.types import _size

from univae.dtypes import computation_dtype

__all__ = ["IMAGE_DIMS", "Causal", "CausalPixels", "Position", "RasterWalk"]

Position: TypeAlias = tuple[int, ...]  # row and column of one pixel, or () for all

IMAGE_DIMS = 3  # (channels, height, width)
FEATURE_DIMS = IMAGE_DIMS + 1  # (width, channels, height, width of the image)


class Causal(nn.Module):
    """The networks of :class:`CausalPixels`: features of the pixels before, and parameters.

    Args:
        channels: the channels of an image.
        reach: how many rows above, and columns to either side, a pixel depends on.
        width: the features of a pixel.
        numbers: the parameters of a pixel's distribution.
    """

    mask: Tensor

    def __init__(self, channels: int, reach: int, width: int, numbers: int) -> None:
        super().__init__()
        self.channels = channels
        self.reach = reach
        self.width = width
        self.near = nn.Conv2d(channels, width * channels, (reach + 1, 2 * reach + 1))
        self.further = nn.Conv2d(width * channels, width * channels, 1)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.last = nn.Sequential(nn.GELU(), nn.Linear(width, numbers))

        mask = torch.ones(reach + 1, 2 * reach + 1)
        mask[-1, reach:] = 0  # the pixel itself and those after it
        self.register_buffer("mask", mask, persistent=False)

    def context(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch width c h w"]:
        """Return the features of every pixel's context: the pixels before it."""
        padded = F.pad(x, (self.reach, self.reach, self.reach, 0))
        near = F.conv2d(padded, self.masked_weight(), self.near.bias)
        return self._by_channel(near + self.further(F.gelu(near)))

    def window_context(
        self, window: Float[Tensor, "batch c rows columns"], masked_weight: Tensor
    ) -> Float[Tensor, "batch width c"]:
        """Return :meth:`context` of one pixel from the rows above to its own, and both sides.

        ``masked_weight`` is that of :meth:`masked_weight`, computed once for many pixels.
        """
        near = F.linear(window.flatten(1), masked_weight.flatten(1), self.near.bias)
        weight = self.further.weight.flatten(1)
        return self._by_channel(near + F.linear(F.gelu(near), weight, self.further.bias))

    def masked_weight(self) -> Tensor:
        """Return the first convolution's weight, zero for the pixel itself and those after it."""
        return self.near.weight * self.mask

    def numbers(
        self, features: Float[Tensor, "*lead width c h w"]
    ) -> Float[Tensor, "*lead numbers c h w"]:
        """Return the parameters of all pixels from the sum of both features."""
        return self.pixel_numbers(features.movedim(-FEATURE_DIMS, -1)).movedim(-1, -FEATURE_DIMS)

    def pixel_numbers(self, rows: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead numbers"]:
        """Return the parameters of one pixel and channel, or of many."""
        parameters: Tensor = self.last(rows + self.mix(rows))
        return parameters

    def _by_channel(self, features: Tensor) -> Tensor:
        shape = (self.width, self.channels)
        by_channel: Tensor = features.unflatten(1, shape)
        return by_channel


class CausalPixels(Distribution):
    r"""The distribution of images given features (\*batch, width, channels, height, width) of z.

    A log-probability costs one pass; a sample goes from pixel to pixel.

    Args:
        features: the decoder's output.
        net: the networks shared by all pixels.
        distribution_of: from parameters and a position, () for all, to a distribution of pixels.
        scaled: from pixels at a position to inputs of a network.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(
        self,
        features: Tensor,
        net: Causal,
        distribution_of: Callable[[Tensor, Position], Distribution],
        scaled: Callable[[Tensor, Position], Tensor],
    ) -> None:
        self.features = features
        self.net = net
        self.distribution_of = distribution_of
        self.scaled = scaled
        batch_shape = features.shape[:-FEATURE_DIMS]
        super().__init__(batch_shape, features.shape[-IMAGE_DIMS:], validate_args=False)

    def log_prob(self, value: Float[Tensor, "*data c h w"]) -> Float[Tensor, "*lead"]:
        """Return the log-probability of images in nats."""
        images = self.scaled(value, ()).reshape(-1, *self.event_shape)
        context = self.net.context(images)
        context = context.reshape(*value.shape[:-IMAGE_DIMS], *self.features.shape[-FEATURE_DIMS:])
        return self.distribution_of(self.net.numbers(self.features + context), ()).log_prob(value)

    @torch.no_grad()
    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw images, pixel by pixel."""
        walk = self.walk(Size(sample_shape) + self.batch_shape)
        for position in walk.positions():
            walk.put(position, walk.distribution(position).sample())
        return walk.images()

    def first(self) -> Distribution:
        """Return the distribution of the pixel at row 0, column 0 of one image."""
        features = self.features.reshape(-1, *self.features.shape[-FEATURE_DIMS:])[:1]
        context = self.net.context(features.new_zeros(1, *self.event_shape))
        rows = (features[..., 0, 0] + context[..., 0, 0]).mT
        return self.distribution_of(self.net.pixel_numbers(rows).mT, (0, 0))

    def walk(self, lead: Size | None = None) -> "RasterWalk":
        """Return images of leading shape ``lead``, by default the batch shape, to be filled."""
        return RasterWalk(self, self.batch_shape if lead is None else lead)


class RasterWalk:
    """Images that are filled in raster order, to sample or to code them.

    For each of :meth:`positions` in order, :meth:`distribution` returns the distribution of its
    pixels (N, channels) given those before, then :meth:`put` sets their values.
    """

    def __init__(self, joint: CausalPixels, lead: Size) -> None:
        self.joint = joint
        self.lead = lead
        self.masked_weight = joint.net.masked_weight()
        features = joint.features.expand(*lead, *joint.features.shape[-FEATURE_DIMS:])
        self.features = features.reshape(-1, *features.shape[-FEATURE_DIMS:])
        shape = (len(self.features), *joint.event_shape)
        dtype = computation_dtype(features)
        self.pixels = torch.zeros(shape, dtype=dtype, device=features.device)

        # scaled pixels, zero beyond the image as in training
        reach = joint.net.reach
        self.padded = F.pad(features.new_zeros(shape), (reach, reach, reach, 0))

    def positions(self) -> Iterator[Position]:
        """Return row and column of every pixel in raster order."""
        height, width = self.pixels.shape[-2:]
        return product(range(height), range(width))

    def distribution(self, position: Position) -> Distribution:
        """Return the distribution of the pixels at a position, given all that were set before."""
        row, column = position
        net = self.joint.net
        window = self.padded[..., row : row + net.reach + 1, column : column + 2 * net.reach + 1]
        features = self.features[..., row, column] + net.window_context(window, self.masked_weight)
        return self.joint.distribution_of(net.pixel_numbers(features.mT).mT, position)

    def put(self, position: Position, values: Float[Tensor, "rows channels"]) -> None:
        """Set the pixels at a position."""
        row, column = position
        reach = self.joint.net.reach
        self.pixels[..., row, column] = values
        scaled = self.joint.scaled(self.pixels[..., row, column], position)
        self.padded[..., row + reach, column + reach] = scaled

    def images(self) -> Float[Tensor, "*lead c h w"]:
        """Return the images."""
        return self.pixels.reshape(self.lead + self.joint.event_shape)
