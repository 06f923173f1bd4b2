r"""Losses of a critic and of a generator, from scores of real and of generated data.

==================  ====================================================  ==========================================
``wasserstein``     :math:`E f(y) - E f(x)`                               :math:`-E f(y)`
``hinge``           :math:`E (1 - f(x))_+ + E (1 + f(y))_+`               :math:`-E f(y)`
``non-saturating``  :math:`E \zeta(-f(x)) + E \zeta(f(y))`                :math:`E \zeta(-f(y))`
``least-squares``   :math:`(E (f(x) - 1)^2 + E f(y)^2) / 2`               :math:`E (f(y) - 1)^2 / 2`
``relativistic``    :math:`E \zeta(f(y) - f(x))` of pairs                 :math:`E \zeta(f(x) - f(y))`
==================  ====================================================  ==========================================

x is real, y generated, :math:`\zeta` the softplus. Scores within [-1, 1], as gradient normalisation
gives them, never meet the hinge: there ``hinge`` is ``wasserstein`` plus 2.

References:
    Wasserstein GAN (Arjovsky et al., 2017), https://arxiv.org/abs/1701.07875 Geometric GAN (Lim &
    Ye, 2017), https://arxiv.org/abs/1705.02894 Generative Adversarial Networks (Goodfellow et al.,
    2014), https://arxiv.org/abs/1406.2661 Least Squares Generative Adversarial Networks (Mao et
    al., 2016), https://arxiv.org/abs/1611.04076 The relativistic discriminator
    (Jolicoeur-Martineau, 2018), https://arxiv.org/abs/1807.00734
"""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError

__all__ = ["LossName", "critic_loss", "generator_loss"]

LossName = Literal["wasserstein", "hinge", "non-saturating", "least-squares", "relativistic"]
Pair: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def critic_loss(
    name: LossName, real: Float[Tensor, "n"], fake: Float[Tensor, "m"]
) -> Float[Tensor, ""]:
    """What the critic descends, from its scores of real and of generated data."""
    return _of(name, real, fake)[0](real, fake)


def generator_loss(
    name: LossName, real: Float[Tensor, "n"], fake: Float[Tensor, "m"]
) -> Float[Tensor, ""]:
    """What the generator descends; only ``relativistic`` looks at the scores of real data."""
    return _of(name, real, fake)[1](real, fake)


def _of(name: LossName, real: Tensor, fake: Tensor) -> tuple[Pair, Pair]:
    if name not in _LOSSES:
        raise InputError(
            f"losses: loss must be one of {', '.join(get_args(LossName))}; got {name!r}"
        )
    if name == "relativistic" and len(real) != len(fake):
        raise InputError(
            f"losses: relativistic pairs each real datum with a generated one; got {len(real)}, {len(fake)}"
        )
    return _LOSSES[name]


def _up(real: Tensor, fake: Tensor) -> Tensor:
    return -fake.mean()


_LOSSES: dict[str, tuple[Pair, Pair]] = {
    "wasserstein": (lambda real, fake: fake.mean() - real.mean(), _up),
    "hinge": (lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(), _up),
    "non-saturating": (
        lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        lambda real, fake: F.softplus(-fake).mean(),
    ),
    "least-squares": (
        lambda real, fake: ((real - 1).square().mean() + fake.square().mean()) / 2,
        lambda real, fake: (fake - 1).square().mean() / 2,
    ),
    "relativistic": (
        lambda real, fake: F.softplus(fake - real).mean(),
        lambda real, fake: F.softplus(real - fake).mean(),
    ),
}
