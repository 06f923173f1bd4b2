"""Parts that generators and critics share: their base class, conditional norms, projection, sizes, first weights."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from univae.errors import InputError
from univae.image_shapes import Shape
from univae.rules import DATUM, SIZE, Rule, at_least, check_values, each, within

__all__ = ["SMALLEST_HALVED", "ConditionalNorm", "Network", "gan_init", "projected"]

SMALLEST_HALVED = 8  # pixels: an image whose sides are both shorter is not halved


# Of the numbers that any network may be built from.
RULES: dict[str, Rule] = {
    "latent": at_least(1, SIZE),
    "width": at_least(1, SIZE),
    "hidden": each(at_least(1, SIZE), least=0),
    "leak": within("[0, 1]"),
    "heads": at_least(1, 1024),
    "layers": at_least(1, 1024),
    "patch": at_least(1, 1024),
    "classes": at_least(0, 10**6, "0 (no labels) or more"),
}


class Network(nn.Module):
    """A network that :func:`gan.networks.build` can make again from its ``config``."""

    def __init__(self, shape: Shape, **rest: Any) -> None:
        super().__init__()
        if not shape or not all(side >= 1 for side in shape) or math.prod(shape) > DATUM:
            raise InputError(
                f"{type(self).__name__}: shape must be positive sides of a datum of at most {DATUM} numbers; "
                f"got shape={shape}"
            )
        check_values(type(self).__name__, RULES, rest)
        self.config = {"network": type(self).__name__, "shape": shape, **rest}
        self.shape = shape
        self.classes = int(rest.get("classes", 0))
        self.latent = int(rest.get("latent", 0))  # width of a generator's latent

    def labels(self, labels: Tensor | None) -> Tensor:
        """The labels that a network of ``classes`` needs."""
        if labels is None:
            raise InputError(
                f"{type(self).__name__}: has {self.classes} classes, and needs labels with its input"
            )
        return labels


class ConditionalNorm(nn.Module):
    """Batch normalisation whose gain and shift are the class's, or everyone's where there are no classes."""

    def __init__(self, width: int, classes: int = 0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=not classes)
        self.gain = nn.Embedding(classes, width) if classes else None
        self.shift = nn.Embedding(classes, width) if classes else None
        for table, value in ((self.gain, 1.0), (self.shift, 0.0)):
            if table is not None:
                nn.init.constant_(table.weight, value)

    def forward(
        self, x: Float[Tensor, "batch width h w"], labels: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch width h w"]:
        x = self.norm(x)
        if self.gain is None or self.shift is None:
            return x
        return x * self.gain(labels)[..., None, None] + self.shift(labels)[..., None, None]


def projected(
    critic: Any, h: Float[Tensor, "batch width"], labels: Int[Tensor, "batch"] | None
) -> Float[Tensor, "batch"]:
    r"""Return :math:`w \cdot h + b`, plus :math:`v_y \cdot h` for a critic with classes."""
    score = critic.head(h).squeeze(-1)
    if critic.classes:
        score = score + (critic.embed(critic.labels(labels)) * h).sum(1)
    return score


@torch.no_grad()
def gan_init(module: nn.Module, leak: float, bias: float = 0.0) -> None:
    r"""Draw weights from :math:`N(0, \frac{2}{(1 + a^2) \, \text{fan in}})`, which keeps the size of what passes.

    A transposed convolution of stride 2 meets a quarter of its taps. Biases are drawn from
    [-``bias``, ``bias``], projections of labels near 0.
    """
    gain = math.sqrt(2 / (1 + leak**2))
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            fan = part.weight[0].numel()
            if isinstance(part, nn.ConvTranspose2d):
                fan = part.in_channels * math.prod(part.kernel_size) // math.prod(part.stride)
            nn.init.normal_(part.weight, std=gain / math.sqrt(fan))
            if part.bias is not None:
                nn.init.uniform_(part.bias, -bias, bias) if bias else nn.init.zeros_(part.bias)
    if isinstance(embed := getattr(module, "embed", None), nn.Embedding):
        nn.init.normal_(embed.weight, std=0.01)  # a spectral norm divides by its size
