r"""Autoregressive pixels: :math:`p(x \mid z) = \prod_d p(x_d \mid z, x_{<d})` in raster order.

A pixel depends on those before it within ``reach``, through one masked convolution, and on the
decoder's features of z at its position; the channels of one pixel are independent of each other
given both. The features of the neighbours are computed once per image, however many samples of z
are scored.

Pixel (r, c) may be computed once (r, c - 1) and (r - 1, c + reach) are known, so the pixels of
equal c + (reach + 1) r, a wave, are computed together: 163 waves instead of 784 pixels at a reach
of 4.

References:
    PixelVAE: A Latent Variable Model for Natural Images (Gulrajani et al., 2017),
        https://arxiv.org/abs/1611.05013
    Variational Lossy Autoencoder (Chen et al., 2017), https://arxiv.org/abs/1611.02731
    Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016),
        https://arxiv.org/abs/1606.05328
"""

from collections.abc import Iterator
from itertools import product
from typing import ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.types import _size

from univae.dtypes import computation_dtype

__all__ = [
    "IMAGE_DIMS",
    "Causal",
    "CausalPixels",
    "PixelHead",
    "Position",
    "RasterWalk",
    "Wave",
    "WaveWalk",
    "waves",
]

# Row and column of one pixel; arrays (pixels,) of rows and of columns; or () for all pixels.
Position: TypeAlias = tuple[int, ...] | tuple[Tensor, Tensor]

IMAGE_DIMS = 3  # (channels, height, width)
FEATURE_DIMS = IMAGE_DIMS + 1  # (width, channels, height, width of the image)


class Wave(NamedTuple):
    """Pixels of one image that do not depend on each other."""

    rows: range
    columns: range


def waves(height: int, width: int, reach: int) -> list[Wave]:
    """Return the waves of an image, each after those that its pixels depend on.

    >>> [(list(wave.rows), list(wave.columns)) for wave in waves(2, 3, reach=1)]
    [([0], [0]), ([0], [1]), ([0, 1], [2, 0]), ([1], [1]), ([1], [2])]
    """
    step = min(reach + 1, width)  # from a row to the next; ``width``: pixels one after the other
    result = []
    for time in range(width + step * (height - 1)):
        first = max(0, -(-(time - width + 1) // step))
        rows = range(first, min(height - 1, time // step) + 1)
        columns = range(time - step * rows.start, time - step * rows.stop, -step)
        result.append(Wave(rows, columns))
    return result


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
        # The backward pass of GELU takes 25 times as long where its argument is strided.
        rows = features.movedim(-FEATURE_DIMS, -1).contiguous()
        return self.pixel_numbers(rows).movedim(-1, -FEATURE_DIMS)

    def pixel_numbers(self, rows: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead numbers"]:
        """Return the parameters of one pixel and channel, or of many."""
        parameters: Tensor = self.last(rows + self.mix(rows))
        return parameters

    def _by_channel(self, features: Tensor) -> Tensor:
        shape = (self.width, self.channels)
        by_channel: Tensor = features.unflatten(1, shape)
        return by_channel


@runtime_checkable
class PixelHead(Protocol):
    """The step from the parameters of pixels to their distribution."""

    def distribution(self, raw: Tensor, position: Position = ()) -> Distribution:
        """Return the distribution of pixels at a position by ``raw``, their parameters."""
        ...

    def scaled(self, x: Tensor, position: Position = ()) -> Tensor:
        """Return pixels at a position as inputs of a network."""
        ...


class CausalPixels(Distribution):
    r"""The distribution of images given features (\*batch, width, channels, height, width) of z.

    A log-probability costs one pass; a sample goes from wave to wave.

    Args:
        features: the decoder's output.
        net: the networks shared by all pixels.
        head: the distributions of pixels by their parameters.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(
        self,
        features: Tensor,
        net: Causal,
        head: PixelHead,
    ) -> None:
        self.features = features
        self.net = net
        self.head = head
        batch_shape = features.shape[:-FEATURE_DIMS]
        super().__init__(batch_shape, features.shape[-IMAGE_DIMS:], validate_args=False)

    def log_prob(self, value: Float[Tensor, "*data c h w"]) -> Float[Tensor, "*lead"]:
        """Return the log-probability of images in nats."""
        images = self.head.scaled(value).reshape(-1, *self.event_shape)
        context = self.net.context(images)
        context = context.reshape(*value.shape[:-IMAGE_DIMS], *self.features.shape[-FEATURE_DIMS:])
        return self.head.distribution(self.net.numbers(self.features + context)).log_prob(value)

    @torch.no_grad()
    def sample(self, sample_shape: _size = ()) -> Tensor:
        """Draw images, wave by wave."""
        walk = WaveWalk(self, Size(sample_shape) + self.batch_shape)
        for position in walk.positions():
            walk.put(position, walk.distribution(position).sample())
        return walk.images()

    def first(self) -> Distribution:
        """Return the distribution of the pixel at row 0, column 0 of one image."""
        features = self.features.reshape(-1, *self.features.shape[-FEATURE_DIMS:])[:1]
        context = self.net.context(features.new_zeros(1, *self.event_shape))
        rows = (features[..., 0, 0] + context[..., 0, 0]).mT
        return self.head.distribution(self.net.pixel_numbers(rows).mT, (0, 0))

    def walk(self) -> "RasterWalk":
        """Return images of the batch shape, to be filled in raster order."""
        return RasterWalk(self, self.batch_shape)


class RasterWalk:
    """Images that are filled in raster order, as the first files of compressed images were.

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
        return self.joint.head.distribution(net.pixel_numbers(features.mT).mT, position)

    def put(self, position: Position, values: Float[Tensor, "rows channels *pixels"]) -> None:
        """Set the pixels at a position."""
        row, column = position
        reach = self.joint.net.reach
        self.pixels[..., row, column] = values
        scaled = self.joint.head.scaled(self.pixels[..., row, column], position)
        self.padded[..., row + reach, column + reach] = scaled

    def images(self) -> Float[Tensor, "*lead c h w"]:
        """Return the images."""
        return self.pixels.reshape(self.lead + self.joint.event_shape)


class WaveWalk(RasterWalk):
    """Images that are filled wave by wave, in fewer and larger steps.

    A position is the rows and the columns of a wave; :meth:`distribution` is of pixels (N,
    channels, pixels of the wave).
    """

    def __init__(self, joint: CausalPixels, lead: Size) -> None:
        super().__init__(joint, lead)
        reach = joint.net.reach
        self.windows = self.padded.unfold(2, reach + 1, 1).unfold(3, 2 * reach + 1, 1)

    def positions(self) -> Iterator[Position]:
        """Return rows and columns of every wave."""
        height, width = self.pixels.shape[-2:]
        device = self.pixels.device
        for rows, columns in waves(height, width, self.joint.net.reach):
            yield torch.tensor(rows, device=device), torch.tensor(columns, device=device)

    def distribution(self, position: Position) -> Distribution:
        """Return the distribution of the pixels of a wave, given those of the waves before."""
        rows, columns = position
        net = self.joint.net
        windows = self.windows[:, :, rows, columns].movedim(2, 1)
        context = net.window_context(windows.flatten(0, 1), self.masked_weight)
        features = self.features[..., rows, columns].movedim(-1, 1).flatten(0, 1)

        numbers = net.pixel_numbers((features + context).mT).mT
        by_wave = numbers.unflatten(0, windows.shape[:2]).movedim(1, -1)
        return self.joint.head.distribution(by_wave, position)
