"""Shared parts of generators and critics: base class, conditional norm, projection, weights."""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from univae.checkpoint import JsonObject
from univae.errors import InputError
from univae.image_shapes import Shape
from univae.rules import DATUM, SIZE, Rule, at_least, check_values, each, within

__all__ = [
    "OPTION_RULES",
    "SMALLEST_HALVED",
    "ConditionalNorm",
    "Network",
    "gan_init",
    "is_image",
    "projected",
]

SMALLEST_HALVED = 8  # pixels: an image whose sides are both shorter is not halved

# Rules of the constructor arguments of networks, by name.
OPTION_RULES: dict[str, Rule] = {
    "latent": at_least(1, SIZE),
    "width": at_least(1, SIZE),
    "hidden": each(at_least(1, SIZE), least=0),
    "leak": within("[0, 1]"),
    "heads": at_least(1, 1024),
    "layers": at_least(1, 1024),
    "patch": at_least(1, 1024),
    "classes": at_least(0, 10**6, "0 (no labels) or more"),
}

# Class embeddings start near 0, but not at 0: spectral norm divides by their norm.
EMBEDDING_STD = 0.01

IMAGE_DIMENSIONS = 3  # channels, height and width


def is_image(shape: Shape) -> bool:
    """Return whether rows of ``shape`` are images (channels, height, width)."""
    return len(shape) == IMAGE_DIMENSIONS


class Network(nn.Module):
    """The base of generators and critics: :func:`gan.networks.build` rebuilds it from ``config``.

    Attributes:
        config: the name of the class and all arguments, of JSON types.
        shape: the shape of one row.
        classes: number of class labels; 0: not conditional.
        latent: width of a generator's latent; 0 for a critic.
    """

    def __init__(self, shape: Shape, **arguments: object) -> None:
        super().__init__()
        if not shape or not all(side >= 1 for side in shape) or math.prod(shape) > DATUM:
            raise InputError(
                f"{type(self).__name__}: shape must be positive sides of at most {DATUM} numbers; "
                f"got shape={shape}"
            )
        check_values(type(self).__name__, OPTION_RULES, arguments)
        classes = arguments.get("classes", 0)
        latent = arguments.get("latent", 0)
        assert isinstance(classes, int)
        assert isinstance(latent, int)
        self.config: JsonObject = {"network": type(self).__name__, "shape": shape, **arguments}
        self.shape = shape
        self.classes = classes
        self.latent = latent

    def labels(self, labels: Tensor | None) -> Tensor:
        """Return ``labels``; raise :class:`InputError` if there are none."""
        if labels is None:
            raise InputError(
                f"{type(self).__name__}: has {self.classes} classes, and needs labels; pass them "
                "with the input"
            )
        return labels


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and shift depend on the class, if there are classes."""

    def __init__(self, width: int, classes: int = 0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=not classes)
        self.gain = nn.Embedding(classes, width) if classes else None
        self.shift = nn.Embedding(classes, width) if classes else None
        if self.gain is not None and self.shift is not None:
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.shift.weight)

    def forward(
        self, x: Float[Tensor, "batch width h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch width h w"]:
        """Return the normalised features, scaled and shifted by each row's class."""
        normalized: Tensor = self.norm(x)
        if self.gain is None or self.shift is None:
            return normalized
        gain: Tensor = self.gain(labels)[..., None, None]
        shift: Tensor = self.shift(labels)[..., None, None]
        return normalized * gain + shift


@runtime_checkable
class ProjectionCritic(Protocol):
    """A critic whose score is linear in its last features."""

    classes: int

    @property
    def head(self) -> nn.Module:
        """The linear layer from last features (B, width) to scores (B, 1)."""
        ...

    @property
    def embed(self) -> nn.Embedding | None:
        """The embedding from labels to vectors (B, width), if there are classes."""
        ...

    def labels(self, labels: Tensor | None) -> Tensor:
        """Return ``labels``; raise if they are missing."""
        ...


def projected(
    critic: ProjectionCritic, h: Float[Tensor, "batch width"], labels: Int[Tensor, "batch"] | None
) -> Float[Tensor, "batch"]:
    r"""Return :math:`w \cdot h + b`, plus :math:`v_y \cdot h` for a conditional critic.

    The score is affine in h.
    """
    score: Tensor = critic.head(h).squeeze(-1)
    if critic.embed is not None:
        score = score + (critic.embed(critic.labels(labels)) * h).sum(1)
    return score


@torch.no_grad()
def gan_init(module: nn.Module, leak: float, bias: float = 0.0) -> None:
    r"""Draw weights from :math:`N(0, \frac{2}{(1 + a^2) \, \text{fan in}})`: preserve the variance.

    The fan-in of a transposed convolution counts ``1 / stride^2`` of the taps of its kernel, those
    that contribute to one output.

    Args:
        module: all its linear layers and convolutions are initialised.
        leak: the slope a of the activations below 0.
        bias: biases are uniform in [-bias, bias]; 0: all are 0.
    """
    gain = math.sqrt(2 / (1 + leak**2))
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=gain / math.sqrt(_fan_in(layer)))
            if layer.bias is not None and bias:
                nn.init.uniform_(layer.bias, -bias, bias)
            elif layer.bias is not None:
                nn.init.zeros_(layer.bias)

    embedding = getattr(module, "embed", None)
    if isinstance(embedding, nn.Embedding):
        nn.init.normal_(embedding.weight, std=EMBEDDING_STD)


def _fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> int:
    if isinstance(layer, nn.ConvTranspose2d):
        taps = layer.in_channels * math.prod(layer.kernel_size)
        return taps // math.prod(layer.stride)
    return layer.weight[0].numel()
