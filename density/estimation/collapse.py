r"""Does a model use its latent? Active units, mutual information, and what the decoder loses with a wrong latent.

A constant divergence from the prior, as of a von Mises-Fisher posterior, proves nothing: all data
may share one posterior, or the decoder may not look. Each function catches one of the two.

References:
    Importance Weighted Autoencoders (Burda et al., 2015), section 5.1,
    https://arxiv.org/abs/1509.00519 ELBO surgery (Hoffman & Johnson, 2016),
    http://approximateinference.org/accepted/HoffmanJohnson2016.pdf On Variational Bounds of Mutual
    Information (Poole et al., 2019), https://arxiv.org/abs/1905.06922
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from density.model import LatentModel, as_data
from univae.errors import InputError

__all__ = [
    "ActiveUnits",
    "MutualInformation",
    "ShuffledGap",
    "active_units",
    "mutual_information",
    "shuffled_gap",
    "verdict",
]

LITTLE = 0.1  # nats: less than this is no use of a latent


@dataclass(frozen=True)
class ActiveUnits:
    """Coordinates of the latent whose posterior mean moves with the data."""

    count: int
    variances: Tensor  # of the posterior mean over the data, per coordinate


class MutualInformation(NamedTuple):
    """Nats that the latent carries about which datum it came from.

    The estimate cannot pass ``ceiling`` = log N.
    """

    nats: float
    ceiling: float
    standard_error: float


class ShuffledGap(NamedTuple):
    """Nats per datum that the decoder loses when it is handed the latent of another datum."""

    nats: float
    standard_error: float


def active_units(means: Float[Tensor, "N *units"], threshold: float = 0.01) -> ActiveUnits:
    r"""Count the coordinates with :math:`\mathrm{Var}_x(E_q[z_u \mid x])` above ``threshold``."""
    if means.shape[0] < 2:
        raise InputError(
            f"active_units: a variance needs at least 2 data; got N={means.shape[0]}; pass more means"
        )
    variances = means.double().var(dim=0)
    return ActiveUnits(int((variances > threshold).sum()), variances)


@torch.no_grad()
def mutual_information(
    model: LatentModel, x: Tensor, draws: int = 1, rows: int = 4096
) -> MutualInformation:
    r"""Estimate :math:`I(x; z)` between N data and their latents, at most ``rows`` pairs at a time.

    .. math:: \frac1N \sum_i \Bigl[\log q(z_i \mid x_i) - \log \frac1N \sum_j q(z_i \mid x_j)\Bigr],
              \qquad z_i \sim q(z \mid x_i)

    A lower bound in expectation, both on the information over all data and on :math:`\log N`: near
    the ceiling, the truth may be any larger number.
    """
    x = as_data(x, "mutual_information")
    count = _count(x, "mutual_information")
    blocks = [model.posterior(block) for block in x.split(rows)]
    z = torch.cat([q.sample(torch.Size((draws,))) for q in blocks], dim=1).flatten(0, 1)
    own = torch.arange(count, device=z.device).repeat(draws)  # whose latent each draw is
    terms = []
    for pick, log_q in _pairs(blocks, z, max(1, rows // count)):
        relative = log_q - log_q.gather(-1, own[pick].unsqueeze(-1))
        terms.append(math.log(count) - relative.logsumexp(-1))
    per_datum = torch.cat(terms).unflatten(0, (draws, count)).mean(0)
    return MutualInformation(per_datum.mean().item(), math.log(count), _error_of_mean(per_datum))


@torch.no_grad()
def shuffled_gap(model: LatentModel, x: Tensor, rows: int = 4096) -> ShuffledGap:
    r"""Estimate :math:`E[\log p(x \mid z(x)) - \log p(x \mid z(x'))]`, where :math:`x'` is the datum before x.

    Shuffle data whose neighbours resemble each other first.
    """
    x = as_data(x, "shuffled_gap")
    _count(x, "shuffled_gap")
    z = torch.cat([model.posterior(block).sample() for block in x.split(rows)])
    gaps = [
        (model.likelihood(own).log_prob(block) - model.likelihood(other).log_prob(block)).double()
        for block, own, other in zip(
            x.split(rows), z.split(rows), z.roll(1, dims=0).split(rows), strict=True
        )
    ]
    gap = torch.cat(gaps)
    return ShuffledGap(gap.mean().item(), _error_of_mean(gap))


def verdict(information: MutualInformation, gap: ShuffledGap) -> str:
    """Say in words whether the latent is used; numbers that are not finite cannot tell."""
    numbers = f"information {information.nats:.2f} nats of at most {information.ceiling:.2f}, gap {gap.nats:.2f} nats"
    if not (math.isfinite(information.nats) and math.isfinite(gap.nats)):
        return f"the use of the latent cannot be judged: a likelihood is not finite ({numbers})"
    if information.nats < LITTLE:
        return f"collapsed: the posterior ignores the data ({numbers}): this is an unconditional model now"
    if gap.nats < LITTLE:
        return f"collapsed: the decoder ignores the latent ({numbers}): this is an unconditional model now"
    if information.nats > information.ceiling - LITTLE:
        return f"the latent is used ({numbers}); the information sits on its ceiling log N: more data may show more"
    return f"the latent is used ({numbers})"


def _pairs(
    blocks: Sequence[Distribution], z: Float[Tensor, "draws *event"], size: int
) -> Iterator[tuple[slice, Float[Tensor, "size N"]]]:
    r"""Return :math:`\log q(z_i \mid x_j)` for all j, ``size`` draws at a time, with the draws it belongs to."""
    for start in range(0, z.shape[0], size):
        pick = slice(start, start + size)
        rows = []
        for q in blocks:
            shape = (
                z[pick].shape[0],
                *q.batch_shape,
                *q.event_shape,
            )  # spelt out: a layered posterior may not broadcast
            rows.append(q.log_prob(z[pick].unsqueeze(1).expand(shape)).double())
        yield pick, torch.cat(rows, dim=1)


def _count(x: Tensor, who: str) -> int:
    if x.shape[0] < 2:
        raise InputError(
            f"{who}: compares data with each other, so needs at least 2; got N={x.shape[0]}; pass more data"
        )
    return x.shape[0]


def _error_of_mean(values: Float[Tensor, "N"]) -> float:
    return (values.std() / math.sqrt(values.shape[0])).item()
