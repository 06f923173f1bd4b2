"""Networks of the image models: multilayer perceptrons, residual convolutions, attention over patches.

All of them take data and latents of any leading shape, flattened for the layers and unflattened
after them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from univae.dtypes import at_least_float32
from univae.errors import InputError
from univae.latent.gaussian import diagonal_gaussian

__all__ = [
    "Activation",
    "GaussianMLP",
    "ResNet",
    "gaussian",
    "glorot",
    "mlp",
    "over_images",
    "silent",
]


Activation = Literal["tanh", "relu", "gelu"]

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": lambda: nn.ReLU(inplace=True),  # a linear layer forgets what it gave
    "gelu": nn.GELU,
}


def gaussian(mean: Float[Tensor, "*batch d"], log_scale: Float[Tensor, "*batch d"]) -> Independent:
    r"""Return :math:`N(\mu, \sigma^2)` in float32 at least; beyond 10, :math:`|\log \sigma|` saturates.

    Unbounded, one datum far from the others overflows the exponential, and with it every weight.
    """
    scale = at_least_float32(log_scale).clamp(-10, 10).exp()
    return diagonal_gaussian(at_least_float32(mean), scale)


def mlp(widths: Sequence[int], activation: Activation) -> nn.Sequential:
    """Linear layers from ``widths[0]`` through the others, an activation after each."""
    if activation not in ACTIVATIONS:
        raise InputError(
            f"mlp: activation must be one of {', '.join(get_args(Activation))}; got {activation!r}"
        )
    return nn.Sequential(
        *[
            part
            for a, b in pairwise(widths)
            for part in (nn.Linear(a, b), ACTIVATIONS[activation]())
        ]
    )


class GaussianMLP(nn.Module):
    r"""Hidden layers, then :math:`N(\mu, \sigma^2)` with linear :math:`\mu` and :math:`\log \sigma`."""

    def __init__(self, widths: Sequence[int], latent: int, activation: Activation) -> None:
        super().__init__()
        self.hidden = mlp(widths, activation)
        self.mean = nn.Linear(widths[-1], latent)
        self.log_scale = nn.Linear(widths[-1], latent)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Distribution:
        h = self.hidden(x)
        return gaussian(self.mean(h), self.log_scale(h))


@torch.no_grad()
def glorot(module: nn.Module) -> None:
    """Draw weights uniformly within sqrt(6 / (in + out)) and zeroes biases; what starts silent stays so.

    The doublings keep the size of their input too: with a stride of 2, a pixel meets a quarter of
    the taps.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and part.weight.any():
            nn.init.xavier_uniform_(
                part.weight, gain=2 if isinstance(part, nn.ConvTranspose2d) else 1
            )
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class ResNet(nn.Module):
    """Residual pairs of 3x3 convolutions at one resolution, the identity at the start."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.Sequential(
                nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU(), silent(width, width)
            )
            for _ in range(depth)
        )

    def forward(self, x: Float[Tensor, "*batch width h w"]) -> Float[Tensor, "*batch width h w"]:
        flat = x.reshape(-1, *x.shape[-3:])
        for pair in self.pairs:
            flat = flat + pair(flat)
        return flat.reshape(x.shape)


def silent(channels: int, width: int) -> nn.Conv2d:
    """A 3x3 convolution that says nothing yet."""
    conv = nn.Conv2d(channels, width, 3, padding=1)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


def over_images(module: nn.Module, x: Float[Tensor, "*batch c h w"]) -> Tensor:
    """Apply a module for (N, c, h, w) to images of any leading shape."""
    y = module(x.reshape(-1, *x.shape[-3:]))
    return y.reshape(*x.shape[:-3], *y.shape[1:])
