r"""Remedies against a vanishing KL in the training objective of a text VAE.

Annealing, a constant weight and free bits change the training objective only; a reported bound has
weight 1 and no floor. Together, after a fraction t of training, with weight :math:`\beta` and floor
:math:`\lambda`, the KL of a batch costs

.. math:: \beta \, a(t) \, B \sum_j \max(\lambda, \tfrac1B \sum_i \mathrm{KL}_{ij}),

with a(t) in [0, 1] of the annealing: the floor is that of the KL itself, before it is weighted.

References:
    Generating Sentences from a Continuous Space (Bowman et al., 2016),
    https://arxiv.org/abs/1511.06349 (linear)
    Cyclical Annealing Schedule (Fu et al., 2019), https://arxiv.org/abs/1903.10145
    Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
    https://arxiv.org/abs/1606.04934 (free bits)
    beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl (constant weight)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from jaxtyping import Float
from torch import Tensor

from univae.errors import InputError
from univae.registry import lookup
from univae.rules import at_least
from univae.summaries import counted, mean_with_error

__all__ = [
    "ANNEALINGS",
    "FREE_BITS",
    "KL_WEIGHT",
    "Annealing",
    "Elbo",
    "FreeBitsPer",
    "annealed_weight",
    "free_bits",
    "weight_notes",
]


class Elbo(NamedTuple):
    r"""The terms of a bound from one sample a text, in nats.

    .. math:: \log p(x) \ge \mathbb{E}_q \log p(x \mid z) - \sum_l \mathrm{KL}_l
    """

    # log p(x | z) of the text, summed over its tokens and one end token
    log_likelihood: Float[Tensor, "batch"]
    kl: Float[Tensor, "batch layers"]  # KL(q(z_l | z_<l, x) || p(z_l | z_<l)), exact given z_<l
    # the same per coordinate, for families of independent coordinates
    kl_dimensions: Float[Tensor, "batch layers d"] | None = None

    def __repr__(self) -> str:
        """Return means over the texts in one line."""
        return (
            f"Elbo(log_likelihood {mean_with_error(self.log_likelihood)} nats, "
            f"kl {mean_with_error(self.kl.sum(-1))} in {self.kl.shape[-1]} layers, "
            f"{counted(len(self.kl))})"
        )


KL_WEIGHT = at_least(0, 1e6, "0 (no cost) or more")  # the rule of --kl-weight


def weight_notes(weight: float) -> list[str]:
    """Return a note that a weight of the KL holds for training only, unless it is 1."""
    if weight == 1:
        return []
    return [
        f"--kl-weight {weight:g} weighs the KL in training only; validations, likelihoods and a "
        "calibration are of the bound itself, with weight 1"
    ]


@dataclass(frozen=True)
class AnnealingSchedule:
    """A weight of the KL: ``weight(fraction of training, warmup, cycles)``, in [0, 1]."""

    summary: str
    weight: Callable[[float, float, int], float]


def _linear(fraction: float, warmup: float, cycles: int) -> float:
    return min(1.0, fraction / warmup)


def _cyclical(fraction: float, warmup: float, cycles: int) -> float:
    return 1.0 if fraction >= 1 else _linear(fraction * cycles % 1, warmup, cycles)


ANNEALINGS = {
    "none": AnnealingSchedule("weight 1", lambda fraction, warmup, cycles: 1.0),
    "linear": AnnealingSchedule("from 0 to 1 over the warmup", _linear),
    "cyclical": AnnealingSchedule("from 0 to 1 in each of several cycles", _cyclical),
}

if TYPE_CHECKING:
    Annealing: TypeAlias = str
else:
    Annealing = Literal[tuple(ANNEALINGS)]


def annealed_weight(
    fraction: float,
    annealing: Annealing,
    warmup: float = 0.3,
    cycles: int = 4,
    final: float = 1.0,
) -> float:
    r"""Return the weight of the KL after ``fraction`` in [0, 1] of training.

    ``none`` is the weight ``final`` throughout. ``linear`` rises from 0 to ``final`` over the first
    ``warmup`` of training and then stays there. ``cyclical`` does so in each of ``cycles`` equal
    intervals of training; ``warmup`` is then a fraction of a cycle.

    Raises:
        InputError: the annealing is unknown, ``warmup`` is outside (0, 1], ``cycles`` < 1, or
            ``final`` is negative.

    >>> [annealed_weight(fraction, "linear", warmup=0.5) for fraction in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.5, 1.0, 1.0]
    """
    schedule = lookup(ANNEALINGS, annealing, "annealed_weight: annealing")
    if not 0 < warmup <= 1 or cycles < 1:
        raise InputError(
            "annealed_weight: warmup must lie in (0, 1] and cycles be at least 1; "
            f"got warmup={warmup}, cycles={cycles}"
        )
    if not final >= 0:
        raise InputError(f"annealed_weight: final must be 0 or more; got final={final}")
    return final * schedule.weight(fraction, warmup, cycles)


@dataclass(frozen=True)
class FreeBits:
    """A choice of the KL terms with a floor: ``terms(elbo)`` is (batch, ...)."""

    summary: str
    terms: Callable[[Elbo], Tensor]


def _kl_dimensions(elbo: Elbo) -> Tensor:
    if elbo.kl_dimensions is None:
        raise InputError(
            "free_bits: a latent of dependent coordinates, such as vmf, has no KL per dimension; "
            "got per='dimension'; choose per='layer'"
        )
    return elbo.kl_dimensions


FREE_BITS = {
    "layer": FreeBits("each latent layer", lambda elbo: elbo.kl),
    "dimension": FreeBits("each coordinate of each latent layer", _kl_dimensions),
}

if TYPE_CHECKING:
    FreeBitsPer: TypeAlias = str
else:
    FreeBitsPer = Literal[tuple(FREE_BITS)]


def free_bits(elbo: Elbo, nats: float, per: FreeBitsPer = "layer") -> Float[Tensor, ""]:
    r"""Return the KL of a batch, summed, with a floor.

    .. math:: B \sum_j \max(\lambda, \frac1B \sum_i \mathrm{KL}_{ij})

    j runs over latent layers, or over every coordinate of them. Below the floor the KL has no
    gradient. ``nats`` = 0 is the plain sum.

    Raises:
        InputError: ``per`` is unknown, or "dimension" for a latent with one KL a layer.
    """
    rule = lookup(FREE_BITS, per, "free_bits: per")
    kl = rule.terms(elbo) if nats else elbo.kl
    return kl.mean(0).clamp_min(nats).sum() * kl.shape[0]
