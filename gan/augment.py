r"""DiffAugment: random changes of real and of generated images, differentiable in the images.

The critic scores T(x) and T(y) only, in critic steps and in generator steps, so that it overfits
small training sets later, while the generator learns the distribution without the changes.

References:
    Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020),
    https://arxiv.org/abs/2006.10738
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError

__all__ = ["CHANGES", "Change", "ChangeName", "augment"]

# Batch, channels, height and width.
BATCH_DIMENSIONS = 4
TRANSLATION_DIVISOR = 8  # the largest shift is the side over this
CUTOUT_DIVISOR = 2  # the side of the removed square is the side of the image over this


@dataclass(frozen=True)
class Change:
    """A row of :data:`CHANGES`: a random change of each image of a batch."""

    summary: str
    apply: Callable[[Tensor, torch.Generator | None], Tensor]


def _color(x: Tensor, generator: torch.Generator | None) -> Tensor:
    x = x + _uniform(x, generator) - 0.5
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * _uniform(x, generator)) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (_uniform(x, generator) + 0.5) + mean


def _translation(x: Tensor, generator: torch.Generator | None) -> Tensor:
    height, width = x.shape[2:]
    row_limit = height // TRANSLATION_DIVISOR
    column_limit = width // TRANSLATION_DIVISOR
    row_shift = _integers(x, -row_limit, row_limit, generator)
    column_shift = _integers(x, -column_limit, column_limit, generator)

    # Indices outside the image are clamped to the border of zeros.
    padded = F.pad(x, (1, 1, 1, 1))
    rows = torch.arange(height, device=x.device) + row_shift[:, None]
    columns = torch.arange(width, device=x.device) + column_shift[:, None]
    rows = (rows + 1).clamp(0, height + 1)
    columns = (columns + 1).clamp(0, width + 1)
    images = torch.arange(len(x), device=x.device)[:, None, None]
    channels_last = padded.movedim(1, -1)
    return channels_last[images, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _cutout(x: Tensor, generator: torch.Generator | None) -> Tensor:
    height, width = x.shape[2:]
    in_rows = _random_interval(x, height, generator)
    in_columns = _random_interval(x, width, generator)
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return x.masked_fill(hole[:, None], 0)


CHANGES: dict[str, Change] = {
    "color": Change("random brightness, saturation and contrast", _color),
    "translation": Change("shifts by up to an eighth of each side", _translation),
    "cutout": Change("a square of half the side becomes 0", _cutout),
}

if TYPE_CHECKING:
    ChangeName: TypeAlias = str
else:
    ChangeName = Literal[tuple(CHANGES)]


def augment(
    x: Float[Tensor, "batch c h w"],
    changes: Sequence[ChangeName],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch c h w"]:
    """Change each image (of values in [-1, 1]) at random, by the rows of ``changes`` in order.

    ``color``: brightness by up to 0.5, saturation by a factor of up to 2, contrast by one of 0.5 to
    1.5. ``translation``: by up to an eighth of each side, with zeros at the border. ``cutout``: a
    square of half the side becomes 0.

    Raises:
        InputError: an unknown change, or ``x`` is no batch of images.
    """
    for name in changes:
        if name not in CHANGES:
            raise InputError(f"augment: changes must be of {', '.join(CHANGES)}; got {name!r}")
        if x.ndim != BATCH_DIMENSIONS:
            raise InputError(
                f"augment: {name} needs images (N, channels, height, width); got shape "
                f"{tuple(x.shape)}; drop {name}"
            )
        x = CHANGES[name].apply(x, generator)
    return x


def _random_interval(x: Tensor, side: int, generator: torch.Generator | None) -> Tensor:
    """Return which of ``side`` pixels lie in a random interval of half the side, (B, side)."""
    overlap = side // (2 * CUTOUT_DIVISOR)
    start = _integers(x, -overlap, side - overlap, generator)[:, None]
    positions = torch.arange(side, device=x.device)
    return (positions >= start) & (positions < start + side // CUTOUT_DIVISOR)


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device, dtype=x.dtype)


def _integers(x: Tensor, low: int, high: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(low, high + 1, (len(x),), generator=generator, device=x.device)
