r"""Pixels that also look at their neighbours: :math:`p(x \mid z) = \prod_d p(x_d \mid z, x_{<d})` in raster order.

A pixel sees those before it that are near, through one masked convolution and layers of its own,
and what the decoder says of z at its place; the channels of one pixel are independent of each other
given both. What the pixels say of each other is computed once per datum, however many samples of z
are scored.

References:
    PixelVAE: A Latent Variable Model for Natural Images (Gulrajani et al., 2017),
        https://arxiv.org/abs/1611.05013 Variational Lossy Autoencoder (Chen et al., 2017),
        https://arxiv.org/abs/1611.02731 Conditional Image Generation with PixelCNN Decoders (van
        den Oord et al., 2016), https://arxiv.org/abs/1606.05328
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.types import _size

__all__ = ["Causal", "CausalPixels", "Choose", "Place"]

Place: TypeAlias = tuple[int, ...]  # row and column of one pixel, or () for all
Choose: TypeAlias = Callable[[Place, Distribution], Tensor]


class Causal(nn.Module):
    """The networks of :class:`CausalPixels`: ``width`` features of z and of the pixels before, added, to ``numbers``.

    ``reach`` is how many rows above, and columns to either side, a pixel sees.
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
        """What every pixel is told of those before it."""
        padded = F.pad(x, (self.reach, self.reach, self.reach, 0))
        near = F.conv2d(padded, self.near.weight * self.mask, self.near.bias)
        return (near + self.further(F.gelu(near))).unflatten(1, (self.width, self.channels))

    def one_context(
        self,
    ) -> Callable[[Float[Tensor, "batch c rows columns"]], Float[Tensor, "batch width c"]]:
        """Return :meth:`context` of one pixel, as a function of its window: rows above to its own, and both sides."""
        first = (self.near.weight * self.mask).flatten(1)
        second = self.further.weight.flatten(1)

        def context(window: Tensor) -> Tensor:
            near = F.linear(window.flatten(1), first, self.near.bias)
            rows = near + F.linear(F.gelu(near), second, self.further.bias)
            return rows.unflatten(1, (self.width, self.channels))

        return context

    def numbers(
        self, features: Float[Tensor, "*lead width c h w"]
    ) -> Float[Tensor, "*lead numbers c h w"]:
        """What a law takes, of the sum of both sides."""
        return self.one_number(features.movedim(-4, -1)).movedim(-1, -4)

    def one_number(self, rows: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead numbers"]:
        """The same of one pixel and channel, or of many."""
        return self.last(rows + self.mix(rows))


class CausalPixels(Distribution):
    r"""The law of images given features (\*batch, width, channels, height, width of the image) of z.

    ``law(numbers, place)`` makes the law of all pixels, or of those at one place, from the
    ``numbers`` of ``net``; ``scaled(x, place)`` is x as a network likes it. A density costs one
    pass; a draw goes from pixel to pixel.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        features: Tensor,
        net: Causal,
        law: Callable[[Tensor, Place], Distribution],
        scaled: Callable[[Tensor, Place], Tensor],
    ) -> None:
        self.features = features
        self.net = net
        self.law = law
        self.scaled = scaled
        super().__init__(features.shape[:-4], features.shape[-3:], validate_args=False)

    def log_prob(self, value: Float[Tensor, "*data c h w"]) -> Float[Tensor, "*lead"]:
        flat = self.scaled(value, ()).reshape(-1, *value.shape[-3:])
        context = self.net.context(flat).reshape(*value.shape[:-3], *self.features.shape[-4:])
        return self.law(self.net.numbers(self.features + context), ()).log_prob(value)

    @torch.no_grad()
    def sample(self, sample_shape: _size = ()) -> Tensor:
        lead = Size(sample_shape) + self.batch_shape
        return self.walk(lambda place, law: law.sample(), lead)

    def first(self) -> Distribution:
        """The law of the pixel that no other comes before, given the features of one datum."""
        features = self.features.reshape(-1, *self.features.shape[-4:])[:1]
        rows = (
            features[..., 0, 0]
            + self.net.context(features.new_zeros(1, *self.event_shape))[..., 0, 0]
        ).mT
        return self.law(self.net.one_number(rows).mT, (0, 0))

    def walk(self, choose: Choose, lead: Size | None = None) -> Float[Tensor, "*lead c h w"]:
        """Visit the places in raster order; ``choose(place, law)`` says what stands there, (N, channels).

        The law is that of N data given what was chosen before; ``lead``, the batch shape if not
        given, has N places. Whoever chooses decides what the walk is: a draw, a density, or a
        codec.
        """
        lead = self.batch_shape if lead is None else lead
        features = self.features.expand(*lead, *self.features.shape[-4:]).reshape(
            -1, *self.features.shape[-4:]
        )
        (_, _, height, breadth) = features.shape[1:]
        reach = self.net.reach
        x = features.new_zeros(len(features), *self.event_shape)
        # scaled; beyond the image as in training
        seen = F.pad(torch.zeros_like(x), (reach, reach, reach, 0))
        context = self.net.one_context()
        for row in range(height):
            for column in range(breadth):
                window = seen[..., row : row + reach + 1, column : column + 2 * reach + 1]
                rows = (features[..., row, column] + context(window)).mT  # (N, channels, width)
                law = self.law(self.net.one_number(rows).mT, (row, column))
                x[..., row, column] = choose((row, column), law)
                seen[..., row + reach, column + reach] = self.scaled(
                    x[..., row, column], (row, column)
                )
        return x.reshape(lead + self.event_shape)
