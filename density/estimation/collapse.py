r"""Use of the latent: active units, mutual information, and the loss with a wrong latent.

A constant KL from the prior, as of a von Mises-Fisher posterior, does not exclude a collapse: all
data may share one posterior, or the decoder may ignore the latent. Each measure detects one of
these.

References:
    Importance Weighted Autoencoders (Burda et al., 2015), section 5.1,
    https://arxiv.org/abs/1509.00519
    ELBO surgery (Hoffman & Johnson, 2016),
    http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
    On Variational Bounds of Mutual Information (Poole et al., 2019),
    https://arxiv.org/abs/1905.06922
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
    "UnitMoments",
    "active_units",
    "mutual_information",
    "shuffled_gap",
    "verdict",
]

NEGLIGIBLE = 0.1  # nats below which a latent counts as unused
FEWEST_DATA = 2  # of a variance or a comparison


@dataclass(frozen=True)
class ActiveUnits:
    """Coordinates of the latent whose posterior mean moves with the data."""

    count: int
    variances: Tensor  # of the posterior mean over the data, per coordinate


class MutualInformation(NamedTuple):
    """The mutual information of data and latents, in nats.

    The estimate cannot exceed ``ceiling`` = log N.
    """

    nats: float
    ceiling: float
    standard_error: float


class ShuffledGap(NamedTuple):
    """The fall of the log-likelihood with the latent of another datum, in nats per datum."""

    nats: float
    standard_error: float


def active_units(means: Float[Tensor, "N *units"], threshold: float = 0.01) -> ActiveUnits:
    r"""Count the coordinates with :math:`\mathrm{Var}_x(E_q[z_u \mid x])` above ``threshold``.

    Raises:
        InputError: N is less than 2.
    """
    count = means.shape[0]
    if count < FEWEST_DATA:
        raise InputError(
            f"active_units: a variance needs at least 2 data; got N={count}; pass more means"
        )
    return _active(means.double().var(dim=0), threshold)


class UnitMoments:
    """The variances of :func:`active_units` over data that come in batches, none of which is kept.

    The sums are in float64, and of deviations from the mean so far.
    """

    def __init__(self) -> None:
        self.count = 0  # of data
        self._mean: Tensor = torch.zeros((), dtype=torch.float64)
        self._squares: Tensor = torch.zeros((), dtype=torch.float64)

    def add(self, means: Float[Tensor, "N *units"]) -> None:
        """Add the posterior means of a batch of at least one datum."""
        means = means.double()
        batch = means.shape[0]
        whole = self.count + batch
        mean = means.mean(0)
        step = mean - self._mean.to(mean.device)
        squares = (means - mean).square().sum(0)
        between = step.square() * (self.count * batch / whole)
        self._squares = self._squares.to(mean.device) + squares + between
        self._mean = self._mean.to(mean.device) + step * (batch / whole)
        self.count = whole

    @property
    def units(self) -> int:
        """The number of coordinates."""
        return self._mean.numel()

    def active_units(self, threshold: float = 0.01) -> ActiveUnits:
        """Return :func:`active_units` of all data, at least two."""
        return _active(self._squares / (self.count - 1), threshold)


def _active(variances: Tensor, threshold: float) -> ActiveUnits:
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

    Raises:
        InputError: N is less than 2.
    """
    x = as_data(x, "mutual_information")
    count = _require_two(x, "mutual_information")
    posteriors = [model.posterior(block) for block in x.split(rows)]
    blocks = [q.sample(torch.Size((draws,))) for q in posteriors]
    z = torch.cat(blocks, dim=1).flatten(0, 1)
    sources = torch.arange(count, device=z.device).repeat(draws)  # the datum of each draw

    terms = []
    for chunk, log_q in _log_densities(posteriors, z, max(1, rows // count)):
        log_ratio = log_q - log_q.gather(-1, sources[chunk].unsqueeze(-1))
        terms.append(math.log(count) - log_ratio.logsumexp(-1))
    per_datum = torch.cat(terms).unflatten(0, (draws, count)).mean(0)
    return MutualInformation(
        per_datum.mean().item(), math.log(count), _standard_error_of_mean(per_datum)
    )


@torch.no_grad()
def shuffled_gap(model: LatentModel, x: Tensor, rows: int = 4096) -> ShuffledGap:
    r"""Estimate :math:`E[\log p(x \mid z(x)) - \log p(x \mid z(x'))]`, with x' the datum before x.

    Shuffle data first if neighbours resemble each other.

    Raises:
        InputError: there are fewer than 2 data.
    """
    x = as_data(x, "shuffled_gap")
    _require_two(x, "shuffled_gap")
    z = torch.cat([model.posterior(block).sample() for block in x.split(rows)])
    shuffled = z.roll(1, dims=0)

    gaps = []
    for start in range(0, len(x), rows):
        chunk = slice(start, start + rows)
        log_likelihood = model.likelihood(z[chunk]).log_prob(x[chunk])
        shuffled_log_likelihood = model.likelihood(shuffled[chunk]).log_prob(x[chunk])
        gaps.append((log_likelihood - shuffled_log_likelihood).double())
    gap = torch.cat(gaps)
    return ShuffledGap(gap.mean().item(), _standard_error_of_mean(gap))


def verdict(information: MutualInformation, gap: ShuffledGap) -> str:
    """Return a sentence that states whether the latent is used, with the numbers."""
    numbers = (
        f"information {information.nats:.2f} nats of at most {information.ceiling:.2f}, "
        f"gap {gap.nats:.2f} nats"
    )
    if not (math.isfinite(information.nats) and math.isfinite(gap.nats)):
        return f"the use of the latent cannot be judged: a likelihood is not finite ({numbers})"
    if information.nats < NEGLIGIBLE:
        reason = f"the posterior ignores the data, its information is below {NEGLIGIBLE} nats"
        return f"collapsed: {reason} ({numbers}): this is an unconditional model now"
    if gap.nats < NEGLIGIBLE:
        reason = (
            "the decoder ignores the latent, whatever information it holds: with that of another "
            f"datum the log-likelihood falls by less than {NEGLIGIBLE} nats"
        )
        return f"collapsed: {reason} ({numbers}): this is an unconditional model now"
    if information.nats > information.ceiling - NEGLIGIBLE:
        return (
            f"the latent is used ({numbers}); the information sits on its ceiling log N: "
            "more data may show more"
        )
    return f"the latent is used ({numbers})"


def _log_densities(
    posteriors: Sequence[Distribution], z: Float[Tensor, "draws *event"], size: int
) -> Iterator[tuple[slice, Float[Tensor, "size N"]]]:
    r"""Yield chunks of ``size`` draws with their :math:`\log q(z_i \mid x_j)` for all j."""
    for start in range(0, z.shape[0], size):
        chunk = slice(start, start + size)
        rows = []
        for q in posteriors:
            # expanded here, because a layered posterior may not broadcast
            shape = (z[chunk].shape[0], *q.batch_shape, *q.event_shape)
            rows.append(q.log_prob(z[chunk].unsqueeze(1).expand(shape)).double())
        yield chunk, torch.cat(rows, dim=1)


def _require_two(x: Tensor, who: str) -> int:
    """Return the number of data; raise :class:`InputError` for fewer than two."""
    count = x.shape[0]
    if count < FEWEST_DATA:
        raise InputError(
            f"{who}: needs at least 2 data, to compare them; got N={count}; pass more data"
        )
    return count


def _standard_error_of_mean(values: Float[Tensor, "N"]) -> float:
    return (values.std() / math.sqrt(values.shape[0])).item()
