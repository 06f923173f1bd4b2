r"""The second moment of AdamW over a window of :math:`k` gradients.

Per coordinate, let micro-gradients be :math:`\mu + \sigma \epsilon`. The published rule keeps the
mean of squares :math:`\mu^2 + \sigma^2` where an accumulated gradient has the square of the mean,
:math:`\mu^2 + \sigma^2 / k`: steps come out too small by up to :math:`\sqrt k` where noise
dominates. Since :math:`\hat m^2 \approx \mu^2`, the variance :math:`\hat v - \hat m^2` can be
divided by :math:`k` without additional memory:

.. math:: v_{\text{eff}} = \hat m^2 + \max(\hat v - \hat m^2, 0) / k

This ``corrected`` moment is too large: :math:`\hat m` is a mean of finitely many gradients, so that
after :math:`s` updates

.. math::
    \mathbb{E}\, \hat m^2 = \mu^2 + \frac{c\, \sigma^2}{k}, \qquad
    c = \frac{1 - \beta_1}{1 + \beta_1} \cdot \frac{1 + \beta_1^s}{1 - \beta_1^s},

from 1 at the first update to 0.053 with :math:`\beta_1 = 0.9`. The ``unbiased`` moment has the
expectation :math:`\mu^2 + \sigma^2 / k`:

.. math:: v_{\text{eff}} = \hat m^2 + \max(\hat v - \hat m^2, 0)\, \frac{1 - c}{k - c}

No moment of the mean of squares tells the noise inside a window from changes of :math:`\mu` between
windows, and one with :math:`\hat m^2` in it is large where :math:`\hat m` is, so that steps vary
less than those of AdamW. The ``summed`` moment is the square of the mean itself, which a window
accumulates in the memory of the first moment (:mod:`univae.optim.half_words`).

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
    r"""Averages of gradients and of their squares, and the bias corrections :math:`1 - \beta^s`.

    ``mean_noise`` is the variance of the bias-corrected mean over that of one window's mean,
    :math:`c`.
    """

    mean: list[Tensor]
    square: list[Tensor]
    mean_weight: float
    square_weight: float
    mean_noise: float


@dataclass(frozen=True)
class SecondMomentRule:
    r"""A row of :data:`SECOND_MOMENTS`: computes :math:`\sqrt{v_{\text{eff}}}` in scratch memory.

    ``root(moments, count, scratch)`` is for a mean of ``count`` gradients, as
    :meth:`univae.optim.cache_chunks.Scratch.copy` returns it: flat, and its views. With
    ``of_summed``, ``square`` averages the squares of means of windows, not those of gradients.
    """

    summary: str
    root: Callable[[Moments, int, Scratch], Root]
    of_summed: bool = False


def mean_noise(beta: float, step: int) -> float:
    r"""Return the variance of the bias-corrected average of ``step`` terms, relative to theirs.

    .. math::
        \frac{\sum_i w_i^2}{(\sum_i w_i)^2}
        = \frac{1 - \beta}{1 + \beta} \cdot \frac{1 + \beta^s}{1 - \beta^s},
        \qquad w_i = (1 - \beta)\, \beta^{s - i}
    """
    past = beta**step
    return (1 - beta) / (1 + beta) * (1 + past) / (1 - past)


def plain_root(moments: Moments, count: int, scratch: Scratch) -> Root:
    r"""Return :math:`\sqrt{\hat v}`, rounded as ``torch.optim.AdamW`` rounds it."""
    root, views = scratch.copy(moments.square)
    root.sqrt_()
    root.div_(moments.square_weight**0.5)
    return root, views


def corrected_root(moments: Moments, count: int, scratch: Scratch) -> Root:
    r"""Return :math:`\sqrt{\hat m^2 + \max(\hat v - \hat m^2, 0) / n}` for ``count`` n."""
    return _divided_variance(moments, 1 / count, scratch)


def unbiased_root(moments: Moments, count: int, scratch: Scratch) -> Root:
    r"""Return :math:`\sqrt{\hat m^2 + \max(\hat v - \hat m^2, 0) (1 - c) / (n - c)}`."""
    c = moments.mean_noise
    return _divided_variance(moments, (1 - c) / (count - c) if count > 1 else 1, scratch)


def _divided_variance(moments: Moments, share: float, scratch: Scratch) -> Root:
    """Return the root of the squared mean and a share of the variance; of a share of 1 plainly."""
    if share == 1:
        return plain_root(moments, 1, scratch)
    root, views = scratch.copy(moments.square)
    squared_mean, _ = scratch.copy(moments.mean, buffer=1)
    root.div_(moments.square_weight)
    squared_mean.div_(moments.mean_weight)
    squared_mean.mul_(squared_mean)
    torch.maximum(root, squared_mean, out=root)
    root.lerp_(squared_mean, 1 - share)
    root.sqrt_()
    return root, views


SECOND_MOMENTS: Mapping[str, SecondMomentRule] = {
    "corrected": SecondMomentRule(
        "divides the variance of the gradients by --window", corrected_root
    ),
    "unbiased": SecondMomentRule("the same, less the noise in the mean gradient", unbiased_root),
    "summed": SecondMomentRule(
        "of the summed gradient, AdamW's; keeps both averages in half their bits",
        plain_root,
        of_summed=True,
    ),
    "plain": SecondMomentRule("the published rule", plain_root),
}

if TYPE_CHECKING:
    SecondMoment: TypeAlias = str
else:
    SecondMoment = Literal[tuple(SECOND_MOMENTS)]
