r"""A search for parts of the posterior that a fitted proposal misses.

A mode that no draw has met makes every diagnostic of the weights look good. Climbs on
:math:`\log p(x, z)` from draws of the prior find modes from far away. At the end of a climb the
weight is compared with the largest one of a posterior q of the fitted shape:

.. math:: \log W = \log \frac{p(x, z)}{r(z)} - \log p(x) - \log \max_z \frac{q(z)}{r(z)}

The estimate of p(x) is that of the pilot: if it were that of the draws that are judged, those that
are too large by chance would be preferred. A part that holds the share a of the posterior and has
the weight W is met by K a / W of K draws: by ten at a = 1/5 as long as W is at most K / 50.
"""

import math

import torch
from jaxtyping import Bool, Float64, Int
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.optim.lr_scheduler import CosineAnnealingLR

from density.estimation.auto_proposal import Decision
from density.estimation.fitted import TAILS, Fitted
from density.estimation.hmc import SCALAR_DIMS, value_and_slope
from density.estimation.importance import log_weights_of
from density.estimation.streams import own_draws
from density.model import LatentModel

__all__ = ["is_covered", "largest_log_weight"]

STARTS = 16  # climbs of each datum: one of them starts in the basin of half the prior's mass
STEPS = 15
STEP_SIZE = 0.4  # of the first step of Adam, in standard deviations of the prior
SAMPLES_PER_WEIGHT = 50  # ten draws from a fifth of the posterior


@torch.no_grad()
def largest_log_weight(
    model: LatentModel, x: Tensor, fitted: Fitted, decision: Decision
) -> Float64[Tensor, "B"]:
    r"""Return :math:`\log W` of each datum, the largest one of all climbs."""
    q = model.posterior(x)
    z = _climb(model, x, q)
    log_r = fitted.log_prob(model, x, q, z)
    log_w = log_weights_of(model, model.prior(), q, x, z, log_r)
    log_ratio = _largest_log_ratio(decision, q.event_shape.numel())
    return log_w.amax(0) - decision.log_likelihood - log_ratio


def is_covered(log_weight: Float64[Tensor, "B"], samples: Int[Tensor, "B"]) -> Bool[Tensor, "B"]:
    """Return where W, of a ``log_weight`` of the search, is at most K / 50 or 1."""
    return log_weight <= (samples / SAMPLES_PER_WEIGHT).log().clamp_min(0.0)


def _climb(model: LatentModel, x: Tensor, q: Distribution) -> Tensor:
    """Return latents (K, B, *E) after some steps of ascent from draws of the prior."""
    prior = model.prior()
    with own_draws(x, "climb"):
        z = prior.sample(Size((STARTS, *q.batch_shape)))
    spread = _spread(z)
    scaled = z / spread
    optimizer = torch.optim.Adam([scaled.requires_grad_()], lr=STEP_SIZE)
    schedule = CosineAnnealingLR(optimizer, STEPS)

    def log_joint(scaled: Tensor) -> Tensor:
        z = scaled * spread
        return prior.log_prob(z) + model.likelihood(z).log_prob(x)

    for _ in range(STEPS):
        scaled.grad = -value_and_slope(log_joint, scaled)[1]
        optimizer.step()
        schedule.step()
    return (scaled * spread).detach()


def _spread(z: Tensor) -> Tensor:
    """Return the standard deviation of the draws (K, B, *E) of each datum, (1, B, 1, ...)."""
    deviation = z.reshape(*z.shape[:SCALAR_DIMS], -1).std((0, SCALAR_DIMS))
    return deviation.view(1, -1, *[1] * (z.dim() - SCALAR_DIMS))


def _largest_log_ratio(decision: Decision, dim: int) -> Float64[Tensor, "B"]:
    """Return the log of the largest weight of a posterior that the law widens, 0 if it does not."""
    gaussian = dim * decision.factor.log()
    origin = torch.zeros(1, dim, dtype=torch.float64)
    student = gaussian - TAILS.log_ratio(origin).item()
    ratio = torch.where(decision.student, student, gaussian)
    return ratio.clamp_min(0.0) - math.log1p(-decision.prior_share)
