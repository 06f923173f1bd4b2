r"""The second moment of AdamW over a window of :math:`k` gradients.

Per coordinate, let micro-gradients be :math:`\mu + \sigma \epsilon`. The published rule keeps the
mean of squares :math:`\mu^2 + \sigma^2` where an accumulated gradient has the square of the mean,
:math:`\mu^2 + \sigma^2 / k`: steps come out too small by up to :math:`\sqrt k` where noise
dominates. Since :math:`\hat m^2 \approx \mu^2`, the variance :math:`\hat v - \hat m^2` can be
divided by :math:`k` without additional memory:

.. math:: v_{\text{eff}} = \hat m^2 + \max(\hat v - \hat m^2, 0) / k

References:
    Gradient accumulation hidden in momentum (Su, 2021), https://kexue.fm/archives/8634
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from univae.optim.cache_chunks import Scratch

__all__ = ["SECOND_MOMENTS", "Moments", "SecondMoment", "SecondMomentRule"]


Root: TypeAlias = tuple[Tensor, list[Tensor]]


class Moments(NamedTuple):
    r"""Averages of gradients and of their squares, and the bias corrections :math:`1 - \beta^s`."""

    mean: list[Tensor]
    square: list[Tensor]
    mean_weight: float
    square_weight: float


@dataclass(frozen=True)
class SecondMomentRule:
    r"""A row of :data:`SECOND_MOMENTS`: computes :math:`\sqrt{v_{\text{eff}}}` in scratch memory.

    ``root(moments, count, scratch)`` is for a mean of ``count`` gradients, as
    :meth:`univae.optim.cache_chunks.Scratch.copy` returns it: flat, and its views.
    """

    summary: str
    root: Callable[[Moments, int, Scratch], Root]


def plain_root(moments: Moments, count: int, scratch: Scratch) -> Root:
    r"""Return :math:`\sqrt{\hat v}`, rounded as ``torch.optim.AdamW`` rounds it."""
    root, views = scratch.copy(moments.square)
    root.sqrt_()
    root.div_(moments.square_weight**0.5)
    return root, views


def corrected_root(moments: Moments, count: int, scratch: Scratch) -> Root:
    r"""Return :math:`\sqrt{\hat m^2 + \max(\hat v - \hat m^2, 0) / n}` for ``count`` n."""
    if count == 1:
        return plain_root(moments, count, scratch)
    root, views = scratch.copy(moments.square)
    squared_mean, _ = scratch.copy(moments.mean, buffer=1)
    root.div_(moments.square_weight)
    squared_mean.div_(moments.mean_weight)
    squared_mean.mul_(squared_mean)
    torch.maximum(root, squared_mean, out=root)
    root.lerp_(squared_mean, 1 - 1 / count)
    root.sqrt_()
    return root, views


SECOND_MOMENTS: Mapping[str, SecondMomentRule] = {
    "corrected": SecondMomentRule(
        "divides the variance of the gradients by --window", corrected_root
    ),
    "plain": SecondMomentRule("the published rule", plain_root),
}

if TYPE_CHECKING:
    SecondMoment: TypeAlias = str
else:
    SecondMoment = Literal[tuple(SECOND_MOMENTS)]
