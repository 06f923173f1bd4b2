r"""The registry of penalties and constraints of a critic.

.. math::
    \text{gp}: \; \lambda E (\|\nabla f(\tilde x)\| - 1)^2, \quad
    \text{lp}: \; \lambda E (\|\nabla f(\tilde x)\| - 1)_+^2, \quad
    \text{r1, r2}: \; \tfrac{\gamma}{2} E \|\nabla \hat f\|^2, \quad
    \text{div}: \; \tfrac{k}{2} E (\|\nabla f(x)\|^p + \|\nabla f(y)\|^p)

:math:`\tilde x = u x + (1 - u) y` with one u per pair; r1 is at real x, r2 at generated y.

.. math:: \text{cr}: \; \lambda E (\hat f(T(x)) - \hat f(x))^2

at real x: the score should not change where an image moves by up to an eighth of each side
(:mod:`gan.augment`). Unlike with DiffAugment, the loss itself is computed from unchanged images.
:math:`\hat f` is the score in the loss, f the critic before normalisation.

References:
    Improved Training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028

    On the regularization of Wasserstein GANs (Petzka et al., 2017),
    https://arxiv.org/abs/1709.08894

    Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018),
    https://arxiv.org/abs/1801.04406

    Wasserstein Divergence for GANs (Wu et al., 2017), https://arxiv.org/abs/1712.01026

    Consistency Regularization for Generative Adversarial Networks (Zhang et al., 2020),
    https://arxiv.org/abs/1910.12027

    Gradient Normalization for Generative Adversarial Networks (Wu et al., 2021), whose best results
    use consistency: https://arxiv.org/abs/2109.02235
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from gan.augment import augment
from gan.normalization.score import Score
from gan.penalty_terms import (
    clip_weights,
    consistency_penalty,
    divergence_penalty,
    gradient_penalty,
    zero_centred,
)
from univae.rules import Rule, at_least, check

__all__ = ["PENALTIES", "CriticBatch", "Penalties", "Penalty"]

WEIGHT_RULE = at_least(0, 1e9, "0 (not used) or more")


@dataclass(frozen=True)
class CriticBatch:
    """The score and the rows of one critic step, from which terms are computed."""

    score: Score
    real: Tensor
    fake: Tensor
    labels: Tensor | None = None  # of the real rows, and of the generated rows
    noise: torch.Generator | None = None


Term: TypeAlias = Callable[[CriticBatch], Tensor]


def _gp(batch: CriticBatch) -> Tensor:
    return gradient_penalty(
        batch.score.critic, batch.real, batch.fake, batch.labels, generator=batch.noise
    )


def _lp(batch: CriticBatch) -> Tensor:
    return gradient_penalty(
        batch.score.critic,
        batch.real,
        batch.fake,
        batch.labels,
        one_sided=True,
        generator=batch.noise,
    )


def _r1(batch: CriticBatch) -> Tensor:
    return zero_centred(batch.score, batch.real, batch.labels)


def _r2(batch: CriticBatch) -> Tensor:
    return zero_centred(batch.score, batch.fake, batch.labels)


def _r1_from_norms(real_norms: Tensor, fake_norms: Tensor) -> Tensor:
    return real_norms.square().mean() / 2


def _r2_from_norms(real_norms: Tensor, fake_norms: Tensor) -> Tensor:
    return fake_norms.square().mean() / 2


def _div(batch: CriticBatch) -> Tensor:
    labels = (batch.labels, batch.labels) if batch.labels is not None else None
    return divergence_penalty(batch.score.critic, batch.real, batch.fake, labels)


def _cr(batch: CriticBatch) -> Tensor:
    def score(x: Tensor, labels: Tensor | None = None) -> Tensor:
        return batch.score.for_critic(x, labels).score

    def move(x: Tensor) -> Tensor:
        return augment(x, ("translation",), batch.noise)

    return consistency_penalty(score, batch.real, move, batch.labels)


@dataclass(frozen=True)
class Penalty:
    """A row of :data:`PENALTIES`: a term of the critic's loss, or a projection of its weights."""

    summary: str
    usual: float  # the usual weight, from the paper if it states one
    # Returns the unweighted term of one critic step; None for a projection.
    term: Term | None = None
    # Applied to the critic after each of its steps, with the weight as the bound.
    project: Callable[[nn.Module, float], None] | None = None
    # Whether the term penalises the score in the loss, not the critic before normalisation: only
    # then it can be combined with gradient normalisation.
    of_score: bool = False
    # Returns the term from the norms of the score's gradient at real and at generated rows, which
    # one pass computes for several terms. Such a term may be lazy.
    from_norms: Callable[[Tensor, Tensor], Tensor] | None = None
    # Whether the penalty bounds the slope of the critic, which some losses need.
    bounds_critic: bool = True
    # The losses it can be combined with, and the reason; empty: all.
    losses: tuple[str, ...] = ()
    reason: str = ""
    excludes: tuple[str, ...] = ()  # penalties it cannot be combined with
    exclusive: bool = False  # cannot be combined with any other bound of the critic
    images_only: bool = False
    # The key of the unweighted term in the log; empty: the term is included in `penalty`, the
    # weighted sum.
    log_name: str = ""

    @property
    def lazy(self) -> bool:
        """Whether the term may be computed every k steps, with k times the weight."""
        return self.from_norms is not None

    @property
    def help(self) -> str:
        """Help of the option that sets the weight."""
        meaning = "bound" if self.project is not None else "weight"
        return f"{meaning} of {self.summary}; 0: not used; {self.usual:g} is usual"


PENALTIES: dict[str, Penalty] = {
    "gp": Penalty(
        "the penalty of gradient norms other than 1 (WGAN-GP)", 10.0, term=_gp, excludes=("lp",)
    ),
    "lp": Penalty(
        "the penalty of gradient norms above 1 (WGAN-LP)", 10.0, term=_lp, excludes=("gp",)
    ),
    "r1": Penalty(
        "the squared gradient at real rows",
        1.0,
        term=_r1,
        of_score=True,
        from_norms=_r1_from_norms,
    ),
    "r2": Penalty(
        "the squared gradient at generated rows",
        1.0,
        term=_r2,
        of_score=True,
        from_norms=_r2_from_norms,
    ),
    "div": Penalty(
        "the gradient norm to the power 6 (WGAN-div), with --loss wasserstein",
        2.0,
        term=_div,
        losses=("wasserstein",),
        reason="its divergence is a difference of means; use loss=wasserstein, or r1",
    ),
    "clip": Penalty(
        "every weight of the critic, clipped after each step",
        0.01,
        project=clip_weights,
        exclusive=True,
    ),
    "cr": Penalty(
        "the score's squared change where a real image moves by up to an eighth",
        5.0,
        term=_cr,
        of_score=True,
        bounds_critic=False,
        images_only=True,
        log_name="consistency",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Penalties:
    """The weight of each row of :data:`PENALTIES`; 0: not used."""

    gp: float = 0.0
    lp: float = 0.0
    r1: float = 0.0
    r2: float = 0.0
    div: float = 0.0
    clip: float = 0.0  # the largest absolute weight of the critic
    cr: float = 0.0

    RULES: ClassVar[Mapping[str, Rule]] = dict.fromkeys(PENALTIES, WEIGHT_RULE)

    def __post_init__(self) -> None:
        check(self)

    def used(self) -> list[str]:
        """Return the names of the penalties whose weight is not 0."""
        return list(self.weights())

    def weights(self) -> dict[str, float]:
        """Return the weights that are not 0, by name."""
        weights = {name: float(getattr(self, name)) for name in PENALTIES}
        return {name: weight for name, weight in weights.items() if weight > 0}
