r"""A pilot of importance sampling: which width and which tails fit the posterior of each datum.

Its draws come from the posterior at several widths and from the prior. Under the mixture of all of
them, of density r, the variance of the weights :math:`w_c = p(x, z) / r_c(z)` of any other proposal
:math:`r_c` is known from the same draws:

.. math:: E_c[w_c^2] = E_r\bigl[w_c\, w\bigr], \qquad w = p(x, z) / r(z), \qquad
          \text{efficiency}_c = E_r[w]^2 / E_c[w_c^2]

References:
    Adaptive Multiple Importance Sampling (Cornuet et al., 2012), https://arxiv.org/abs/0907.1254
    Safe and Effective Importance Sampling (Owen & Zhou, 2000)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Size, Tensor
from torch.distributions import Distribution

from density.estimation.batches import contiguous_draws
from density.estimation.diagnostics import pareto_khat
from density.estimation.importance import log_mean_weight, log_weights_of
from density.estimation.noise_laws import StudentT, Widened
from density.estimation.streams import own_draws
from density.model import LatentModel
from univae.latent.sampling import from_noise, to_noise

__all__ = ["CANDIDATES", "DEGREES", "PILOT_DRAWS", "Pilot", "run_pilot"]

WIDTHS = (1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
DEGREES = 5.0  # of freedom of the heavy-tailed candidates
DRAWN: Sequence[Widened] = [Widened(width) for width in WIDTHS]
# in the order of preference: of candidates that are about as efficient the last one is taken
CANDIDATES: Sequence[Widened | StudentT] = [*DRAWN, *[StudentT(DEGREES, f) for f in WIDTHS]]
MOST_STUDENT_DIMS = 8  # of latents: in more, heavy tails waste most of the draws
DRAWS_PER_WIDTH = 8
PRIOR_DRAWS = 16
PILOT_DRAWS = DRAWS_PER_WIDTH * len(DRAWN) + PRIOR_DRAWS
NEAR = 0.9  # of the best efficiency


class Pilot(NamedTuple):
    """What a pilot finds for each datum."""

    law: Int[Tensor, "B"]  # the index of the best of CANDIDATES
    efficiency: Float64[Tensor, "B"]  # its expected effective samples over its samples
    khat: Float64[Tensor, "B"]  # the tail index of the pilot's own weights
    log_likelihood: Float64[Tensor, "B"]  # the estimate of the pilot's own weights

    @property
    def factor(self) -> Float64[Tensor, "B"]:
        """The factor of the spread of the best candidate."""
        factors = [law.factor for law in CANDIDATES]
        return torch.tensor(factors, dtype=torch.float64, device=self.law.device)[self.law]

    @property
    def student(self) -> Bool[Tensor, "B"]:
        """Whether the tails of the best candidate are heavy."""
        return self.law >= len(DRAWN)

    def is_poor(self, threshold: float) -> Bool[Tensor, "B"]:
        """Return where the tail index is above ``threshold`` or is infinite or NaN."""
        return ~(self.khat <= threshold)


@torch.no_grad()
def run_pilot(
    model: LatentModel, x: Tensor, q: Distribution, prior_share: float, chunk: int
) -> Pilot:
    """Draw :data:`PILOT_DRAWS` latents a datum and compare all candidates by their weights.

    Each candidate is the law of the noise of ``q``, an invertible posterior, mixed with
    ``prior_share`` of the prior. ``chunk`` draws are decoded at once.
    """
    prior = model.prior()
    with own_draws(x, "pilot"):
        z, noise, log_q = _draws(prior, q)
    log_prior = prior.log_prob(z).double()
    noise = noise.reshape(*log_q.shape, -1).double()

    has_few_dims = noise.shape[-1] <= MOST_STUDENT_DIMS
    candidates = []
    for law in CANDIDATES if has_few_dims else DRAWN:
        log_r = log_q + law.log_ratio(noise) + math.log1p(-prior_share)
        candidates.append(torch.logaddexp(log_r, log_prior + math.log(prior_share)))
    log_mixture = _log_mixture(noise, log_q, log_prior)
    pieces = zip(z.split(chunk), log_mixture.split(chunk), strict=True)
    chunks = [log_weights_of(model, prior, q, x, zs, rs) for zs, rs in pieces]
    log_w = contiguous_draws(torch.cat(chunks))

    log_joint = log_w + log_mixture
    second_moments = [(log_w + log_joint - log_r).logsumexp(0) for log_r in candidates]
    log_square = 2 * log_w.logsumexp(0) - math.log(PILOT_DRAWS)
    efficiency = (log_square - torch.stack(second_moments)).exp().nan_to_num(0.0)
    best = efficiency.amax(0)
    order = torch.arange(len(candidates), device=best.device).unsqueeze(-1)
    index = torch.where(efficiency >= NEAR * best, order, 0).amax(0)
    chosen = efficiency.gather(0, index.unsqueeze(0)).squeeze(0)
    return Pilot(index, chosen, pareto_khat(log_w), log_mean_weight(log_w))


def _draws(
    prior: Distribution, q: Distribution
) -> tuple[Float[Tensor, "K *sample"], Float[Tensor, "K *sample"], Float64[Tensor, "K B"]]:
    """Return latents of the posterior at every width and of the prior, their noise and log q."""
    like = q.sample()
    widths = torch.tensor(WIDTHS, dtype=like.dtype, device=like.device)
    widths = widths.repeat_interleave(DRAWS_PER_WIDTH)
    normals = torch.randn(len(widths), *like.shape, dtype=like.dtype, device=like.device)
    noise = widths.view(-1, *[1] * like.dim()) * normals
    z, log_q = from_noise(q, noise)

    prior_z = prior.sample(Size((PRIOR_DRAWS, *q.batch_shape)))
    prior_noise, prior_log_q = to_noise(q, prior_z)
    latents = torch.cat([z, prior_z])
    return latents, torch.cat([noise, prior_noise]), torch.cat([log_q, prior_log_q]).double()


def _log_mixture(
    noise: Float64[Tensor, "K B d"],
    log_q: Float64[Tensor, "K B"],
    log_prior: Float64[Tensor, "K B"],
) -> Float64[Tensor, "K B"]:
    """Return the log-density of the pilot's draws."""
    components = [log_prior + math.log(PRIOR_DRAWS / PILOT_DRAWS)]
    log_share = math.log(DRAWS_PER_WIDTH / PILOT_DRAWS)
    for law in DRAWN:
        components.append(log_q + law.log_ratio(noise) + log_share)
    return torch.stack(components).logsumexp(0)
