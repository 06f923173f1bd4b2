r"""DiffAugment: the same kinds of random changes to real and generated images, differentiable in the images.

The critic sees T(x) and T(y) only, in its step and in the generator's, so that few real images last
longer; the generator learns the data and not their changes.

References:
    Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020),
    https://arxiv.org/abs/2006.10738
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError

__all__ = ["Change", "augment"]

Change = Literal["color", "translation", "cutout"]


def augment(
    x: Float[Tensor, "batch c h w"],
    changes: Sequence[Change],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch c h w"]:
    """Change each image (of values in [-1, 1]) in its own random way, one kind of ``changes`` after the other.

    ``color``: brightness by up to 0.5, saturation by a factor up to 2, contrast by one of 0.5 to
    1.5. ``translation``: by up to an eighth of each side, zeros behind. ``cutout``: a square of
    half the side becomes 0.
    """
    for name in changes:
        if name not in _CHANGES:
            raise InputError(
                f"augment: changes must be of {', '.join(get_args(Change))}; got {name!r}"
            )
        if x.ndim != 4:
            raise InputError(
                f"augment: {name} is of images (N, channels, height, width); got {tuple(x.shape)}; drop it"
            )
        x = _CHANGES[name](x, generator)
    return x


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device, dtype=x.dtype)


def _color(x: Tensor, generator: torch.Generator | None) -> Tensor:
    x = x + _uniform(x, generator) - 0.5
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * _uniform(x, generator)) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (_uniform(x, generator) + 0.5) + mean


def _translation(x: Tensor, generator: torch.Generator | None) -> Tensor:
    height, width = x.shape[2:]
    shifts = [_whole(x, -(side // 8), side // 8, generator) for side in (height, width)]
    rows = torch.arange(height, device=x.device) + shifts[0][:, None]
    columns = torch.arange(width, device=x.device) + shifts[1][:, None]
    padded = F.pad(x, (1, 1, 1, 1))  # everything outside is the frame
    rows = (rows + 1).clamp(0, height + 1)
    columns = (columns + 1).clamp(0, width + 1)
    each = torch.arange(len(x), device=x.device)[:, None, None]
    return padded.movedim(1, -1)[each, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _cutout(x: Tensor, generator: torch.Generator | None) -> Tensor:
    height, width = x.shape[2:]
    inside = []
    for side in (height, width):
        start = _whole(x, -(side // 4), side - side // 4, generator)[:, None]
        places = torch.arange(side, device=x.device)
        inside.append((places >= start) & (places < start + side // 2))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return x.masked_fill(hole[:, None], 0)


def _whole(x: Tensor, low: int, high: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(low, high + 1, (len(x),), generator=generator, device=x.device)


_CHANGES: dict[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
