r"""Hamiltonian Monte Carlo, vectorised over chains and data, with a step size for each datum.

References:
    MCMC using Hamiltonian dynamics (Neal, 2011), https://arxiv.org/abs/1206.1901
    The Optimal Tuning of the Hybrid Monte-Carlo Algorithm (Beskos et al., 2010),
    https://arxiv.org/abs/1001.4460
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from density.estimation.batches import contiguous_draws
from density.estimation.streams import own_draws

__all__ = ["LEAPFROGS", "transition", "tune_step_size", "value_and_slope"]

LEAPFROGS = 10
ACCEPTANCE = 0.65  # the optimum in many dimensions
GAIN = 0.2  # of the logarithm of the step size per unit of acceptance
SCALAR_DIMS = 2  # of a batch (chains, B) of latents that are single numbers


def transition(
    log_density: Callable[[Tensor], Tensor],
    z: Float[Tensor, "chains B *event"],
    step_size: Float[Tensor, "B"],
    x: Tensor | None = None,
) -> tuple[Float[Tensor, "chains B *event"], Float[Tensor, "chains B"]]:
    r"""Move every chain once; return the chains and their acceptance probabilities.

    The move leaves ``log_density`` invariant.

    .. math:: p \sim \mathcal{N}(0, I), \qquad
              (z', p') = \text{10 leapfrogs of size } \epsilon, \qquad
              a = \min(1, e^{H(z, p) - H(z', p')}), \qquad H = \|p\|^2 / 2 - \log f(z)

    A proposal whose energy is NaN is rejected. A slope that is not finite counts as 0: the move is
    valid with any field of slopes that depends on z alone. ``x`` are the data of the chains, whose
    streams draw (:mod:`density.estimation.streams`).
    """
    event_dims = [1] * (z.dim() - SCALAR_DIMS)
    size = step_size.view(-1, *event_dims).to(z.dtype)
    with own_draws(x, "chains"):
        momentum = torch.randn_like(z)
    value, slope = value_and_slope(log_density, z)
    energy = value - _kinetic(momentum)

    proposal = z
    for _ in range(LEAPFROGS):
        momentum = momentum + size / 2 * slope
        proposal = proposal + size * momentum
        value, slope = value_and_slope(log_density, proposal)
        momentum = momentum + size / 2 * slope

    log_ratio = value - _kinetic(momentum) - energy
    probability = log_ratio.clamp_max(0).exp().nan_to_num(0.0)
    with own_draws(x, "acceptance"):
        is_accepted = torch.rand_like(probability) < probability
    mask = is_accepted.view(*is_accepted.shape, *event_dims)
    return torch.where(mask, proposal, z), probability


def tune_step_size(
    step_size: Float[Tensor, "B"], probability: Float[Tensor, "chains B"]
) -> Float[Tensor, "B"]:
    """Return a longer step for data whose acceptance is above 0.65, otherwise a shorter one."""
    acceptance = contiguous_draws(probability).mean(0).to(step_size)
    return step_size * (GAIN * (acceptance - ACCEPTANCE)).exp()


def value_and_slope(log_density: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Return a log-density at z and its slope in z, 0 where that is not finite."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = log_density(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope.where(slope.isfinite(), 0.0)


def _kinetic(momentum: Float[Tensor, "chains B *event"]) -> Float[Tensor, "chains B"]:
    if momentum.dim() == SCALAR_DIMS:
        return momentum.square() / 2
    return momentum.flatten(SCALAR_DIMS).square().sum(-1) / 2
