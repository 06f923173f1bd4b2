r"""Losses of a critic and of its generator, computed from scores of real and of generated rows.

==================  ===========================================  ===============================
loss                the critic minimises                         the generator minimises
==================  ===========================================  ===============================
``wasserstein``     :math:`E f(y) - E f(x)`                      :math:`-E f(y)`
``hinge``           :math:`E (1 - f(x))_+ + E (1 + f(y))_+`      :math:`-E f(y)`
``non-saturating``  :math:`E \zeta(-f(x)) + E \zeta(f(y))`       :math:`E \zeta(-f(y))`
``least-squares``   :math:`(E (f(x) - 1)^2 + E f(y)^2) / 2`      :math:`E (f(y) - 1)^2 / 2`
``relativistic``    :math:`E \zeta(f(y) - f(x))` of pairs        :math:`E \zeta(f(x) - f(y))`
==================  ===========================================  ===============================

x is real, y generated, :math:`\zeta` the softplus. Scores within [-1, 1], the range of gradient
normalisation, stay in the linear part of the hinge: there ``hinge`` equals ``wasserstein`` plus 2.

References:
    Wasserstein GAN (Arjovsky et al., 2017), https://arxiv.org/abs/1701.07875

    Geometric GAN (Lim & Ye, 2017), https://arxiv.org/abs/1705.02894

    Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661

    Least Squares Generative Adversarial Networks (Mao et al., 2016),
    https://arxiv.org/abs/1611.04076

    The relativistic discriminator (Jolicoeur-Martineau, 2018), https://arxiv.org/abs/1807.00734
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError
from univae.registry import lookup

__all__ = ["LOSSES", "Loss", "LossName", "critic_loss", "generator_loss"]

# Scores of real rows (n,) and of generated rows (m,) to a scalar.
ScoreLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A row of :data:`LOSSES`: the losses of both players, and their properties."""

    summary: str
    critic: ScoreLoss
    generator: ScoreLoss
    # The loss of the best critic where generated and real rows have the same distribution.
    value_at_equilibrium: float
    # Each real row is compared with one generated row, also in generator steps.
    pairs: bool = False
    # A critic of Lipschitz constant L gives -loss / L <= W1: a lower bound on the distance.
    bounds_w1: bool = False
    # The critic's loss has no lower bound unless the critic's slope is bounded.
    needs_bounded_critic: bool = False

    def require_pairs(self, name: str, real: Tensor, fake: Tensor) -> None:
        """Raise :class:`InputError` where rows must be paired and their numbers differ."""
        if self.pairs and len(real) != len(fake):
            raise InputError(
                f"loss {name} pairs each real row with a generated row; got {len(real)} real and "
                f"{len(fake)} generated rows; pass equal numbers"
            )


def _minus_mean(real: Tensor, fake: Tensor) -> Tensor:
    return -fake.mean()


def _difference_of_means(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def _least_squares(real: Tensor, fake: Tensor) -> Tensor:
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def _least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    return (fake - 1).square().mean() / 2


def _relativistic(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(fake - real).mean()


def _relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(real - fake).mean()


LOSSES: dict[str, Loss] = {
    "wasserstein": Loss(
        "difference of mean scores, for a bounded critic",
        _difference_of_means,
        _minus_mean,
        value_at_equilibrium=0.0,
        bounds_w1=True,
        needs_bounded_critic=True,
    ),
    "hinge": Loss(
        "difference of mean scores clipped at a margin of 1",
        _hinge,
        _minus_mean,
        value_at_equilibrium=2.0,
    ),
    "non-saturating": Loss(
        "cross-entropy of real against generated",
        _cross_entropy,
        _non_saturating,
        value_at_equilibrium=2 * math.log(2),
    ),
    "least-squares": Loss(
        "squared distance of scores to 1 (real) and 0 (generated)",
        _least_squares,
        _least_squares_generator,
        value_at_equilibrium=0.25,
    ),
    "relativistic": Loss(
        "cross-entropy of score differences of pairs",
        _relativistic,
        _relativistic_generator,
        value_at_equilibrium=math.log(2),
        pairs=True,
    ),
}

if TYPE_CHECKING:
    LossName: TypeAlias = str
else:
    LossName = Literal[tuple(LOSSES)]


def critic_loss(
    name: LossName, real: Float[Tensor, "n"], fake: Float[Tensor, "m"]
) -> Float[Tensor, ""]:
    """Return the critic's loss from its scores of real and of generated rows.

    Raises:
        InputError: there is no such loss, or it pairs rows and their numbers differ.
    """
    loss = lookup(LOSSES, name, "loss")
    loss.require_pairs(name, real, fake)
    return loss.critic(real, fake)


def generator_loss(
    name: LossName, real: Float[Tensor, "n"], fake: Float[Tensor, "m"]
) -> Float[Tensor, ""]:
    """Return the generator's loss; scores of real rows enter only where the loss pairs rows.

    Raises:
        InputError: there is no such loss, or it pairs rows and their numbers differ.
    """
    loss = lookup(LOSSES, name, "loss")
    loss.require_pairs(name, real, fake)
    return loss.generator(real, fake)
