"""Layers of the image models: multilayer perceptrons, residual convolutions, initial weights.

Inputs have any leading shape, which is flattened for the layers.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from univae.dtypes import at_least_float32
from univae.latent.gaussian import DiagonalGaussian, diagonal_gaussian
from univae.registry import lookup

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "GaussianMLP",
    "ResNet",
    "gaussian",
    "glorot",
    "mlp",
    "over_images",
    "zero_conv",
]

LARGEST_LOG_SCALE = 10  # of a latent: one outlier would overflow the exponential

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": lambda: nn.ReLU(inplace=True),  # the gradient of a linear layer needs no output
    "gelu": nn.GELU,
}

if TYPE_CHECKING:
    Activation: TypeAlias = str
else:
    Activation = Literal[tuple(ACTIVATIONS)]


def gaussian(
    mean: Float[Tensor, "*batch d"], log_scale: Float[Tensor, "*batch d"]
) -> DiagonalGaussian:
    r"""Return :math:`N(\mu, \sigma^2)` in at least float32.

    :math:`|\log \sigma|` is clipped at 10: beyond, one outlier in the training set would overflow
    the exponential and make every weight NaN.
    """
    log_scale = at_least_float32(log_scale).clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
    return diagonal_gaussian(at_least_float32(mean), log_scale.exp())


def mlp(widths: Sequence[int], activation: Activation) -> nn.Sequential:
    """Return linear layers from ``widths[0]`` through the others, an activation after each.

    Raises:
        InputError: the activation is unknown.
    """
    build_activation = lookup(ACTIVATIONS, activation, "mlp: activation")
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), build_activation()]
    return nn.Sequential(*layers)


class GaussianMLP(nn.Module):
    r"""Hidden layers, then :math:`N(\mu, \sigma^2)` with linear :math:`\mu, \log \sigma`."""

    def __init__(self, widths: Sequence[int], latent: int, activation: Activation) -> None:
        super().__init__()
        self.hidden = mlp(widths, activation)
        self.mean = nn.Linear(widths[-1], latent)
        self.log_scale = nn.Linear(widths[-1], latent)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Distribution:
        """Return the diagonal Gaussian of each row."""
        h = self.hidden(x.to(self.mean.weight.dtype))  # latents have at least float32
        return gaussian(self.mean(h), self.log_scale(h))


@torch.no_grad()
def glorot(module: nn.Module) -> None:
    """Draw weights uniformly within sqrt(6 / (in + out)) and zero biases.

    Layers with zero weights stay at zero. Transposed convolutions have twice the bound: with a
    stride of 2, a pixel is the sum of a quarter of the taps.
    """
    for child in module.modules():
        if not isinstance(child, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        # a module of shapes alone has no numbers
        if not child.weight.is_meta and child.weight.any():
            gain = 2 if isinstance(child, nn.ConvTranspose2d) else 1
            nn.init.xavier_uniform_(child.weight, gain=gain)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


class ResNet(nn.Module):
    """Residual pairs of 3x3 convolutions at one resolution, initially the identity."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.Sequential(
                nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU(), zero_conv(width, width)
            )
            for _ in range(depth)
        )

    def forward(self, x: Float[Tensor, "*batch width h w"]) -> Float[Tensor, "*batch width h w"]:
        """Return the images after all pairs."""
        flat = x.reshape(-1, *x.shape[-3:])
        for pair in self.pairs:
            flat = flat + pair(flat)
        return flat.reshape(x.shape)


def zero_conv(channels: int, width: int) -> nn.Conv2d:
    """Return a 3x3 convolution with zero weights."""
    conv = nn.Conv2d(channels, width, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def over_images(module: nn.Module, x: Float[Tensor, "*batch c h w"]) -> Tensor:
    """Apply a module for (N, c, h, w) to images of any leading shape."""
    y: Tensor = module(x.reshape(-1, *x.shape[-3:]))
    return y.reshape(*x.shape[:-3], *y.shape[1:])
